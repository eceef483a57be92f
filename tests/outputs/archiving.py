"""A gateway with an archive, turned by hand, in front of a scripted fal and a CDN of our own."""

from pathlib import Path
from typing import Any

from app.fal import Completed, Succeeded
from app.outputs.archive import Archive
from tests.jobs.hand import FIVE, Hand, rest


async def succeed(hand: Hand, url: str, **video: Any) -> str:
    """A job that fal has just finished, with its video there; its id."""
    job_id = await hand.at_fal("running")
    hand.fal.answer("status", Completed(None, None))
    hand.fal.answer("result", Succeeded({"video": {"url": url, **video}}, FIVE))
    await hand.check()
    assert await hand.status(job_id) == "succeeded"
    return job_id


async def archive(hand: Hand, *, due: bool = True) -> None:
    """One turn of the archive to its end, with all that waits due."""
    if due:
        await hand.sql("UPDATE outputs SET next_try_at = now() WHERE next_try_at IS NOT NULL")
    await turn(hand.rooms.archive)


async def turn(archive: Archive) -> None:
    await archive._turn(4)
    await rest(archive.loop)


async def row_of(hand: Hand, job_id: str) -> dict[str, Any] | None:
    """Its row of the archive."""
    rows = await hand.sql("SELECT * FROM outputs WHERE job_id = $1", job_id[4:])
    return rows[0] if rows else None


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
