"""Jobs that have ended, to be forgotten."""

from datetime import datetime, timedelta
from typing import Any

from app.fal import Completed
from tests.jobs.hand import VIDEO, Hand

PROMPT = "a canary in a coal mine"
URL = str(VIDEO["video"]["url"])  # type: ignore[index]
DONE = Completed(None, None)


async def made(hand: Hand, prompt: str = PROMPT, **fields: Any) -> str:
    """A job that has succeeded."""
    job_id = await hand.submit(prompt, **fields)
    await hand.send()
    hand.fal.answer("status", DONE)
    await hand.check()
    assert await hand.status(job_id) == "succeeded"
    return job_id


async def ended(hand: Hand, *, days_ago: float) -> str:
    """A job that ended so long ago."""
    job_id = await hand.submit()
    await hand.cancel(job_id)
    await hand.sql("UPDATE jobs SET finished_at = $2 WHERE id = $1", job_id[4:], ago(hand, days_ago))
    return job_id


def ago(hand: Hand, days: float) -> datetime:
    return hand.clock() - timedelta(days=days)
