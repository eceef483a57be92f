"""The archive: each video is copied once and whole, whatever dies or fails meanwhile, and forgotten when it must be."""

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from app.embedded import EmbeddedPostgres
from app.fal import Completed, Succeeded
from app.output_store import NotStored, StoreTrouble
from app.outputs import rows
from app.outputs.archive import Archive, erase
from tests.conftest import settings_for
from tests.http.world import refusal
from tests.jobs.hand import FIVE, Hand, by_hand, until

from .archiving import archive, files_in, row_of, succeed, turn
from .cdn import Cdn, File
from .test_content import WHOLE

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest.fixture(scope="module")
def database_url(postgres: EmbeddedPostgres, template: str) -> str:
    postgres.create_database("outputs_archive", template)
    return postgres.dsn("outputs_archive")


@pytest_asyncio.fixture(loop_scope="package")
async def hand(database_url: str, cdn: Cdn, tmp_path: Path) -> AsyncIterator[Hand]:
    cdn.asked.clear()
    cdn.left.clear()
    settings = settings_for(database_url, FAL_REST_URL=cdn.url, OUTPUT_STORE=str(tmp_path / "videos"))
    async with by_hand(settings, shared=True) as made:
        await made.sql("DELETE FROM outputs")
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "videos"


async def content(hand: Hand, job_id: str, *, method: str = "GET", **headers: str) -> Any:
    path = f"/v1/jobs/{job_id}/content"
    return await hand.gateway.client.request(method, path, headers=hand.person.headers | headers)


async def test_a_video_is_copied_with_its_digest_and_then_served_from_the_copy(
    hand: Hand, cdn: Cdn, folder: Path
) -> None:
    job_id = await succeed(hand, cdn.put("boat.mp4", File()), file_size=1000, content_type="video/mp4")
    before = await hand.row(job_id)
    assert before["expires_at"] - before["finished_at"] == timedelta(days=7)
    await archive(hand)
    row = await row_of(hand, job_id)
    assert row is not None
    digest = hashlib.sha256(WHOLE)
    assert (row["size_bytes"], row["sha256"], row["content_type"]) == (1000, digest.digest(), "video/mp4")
    assert (row["next_try_at"], row["error"], row["tries"]) == (None, None, 1)
    assert files_in(folder) == [row["path"]]
    assert (folder / row["path"]).read_bytes() == WHOLE
    after = await hand.row(job_id)
    assert after["expires_at"] - after["finished_at"] == timedelta(days=30)
    assert after["version"] == before["version"] + 1
    cdn.asked.clear()
    answer = await content(hand, job_id)
    assert (answer.status_code, answer.content) == (200, WHOLE)
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    assert cdn.asked == []


async def test_parts_of_a_copy(hand: Hand, cdn: Cdn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.output_store.store.PIECE_BYTES", 64)
    job_id = await succeed(hand, cdn.put("boat.mp4", File()))
    await archive(hand)
    etag = (await content(hand, job_id, method="HEAD")).headers["etag"]
    for asked, start, end in (("bytes=0-0", 0, 1), ("bytes=100-", 100, 1000), ("bytes=-200", 800, 1000)):
        part = await content(hand, job_id, Range=asked)
        assert (part.status_code, part.content) == (206, WHOLE[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/1000"
    assert (await content(hand, job_id, **{"Range": "bytes=0-1", "If-Range": etag})).status_code == 206
    assert (await content(hand, job_id, **{"Range": "bytes=0-1", "If-Range": '"other"'})).content == WHOLE
    refused = await content(hand, job_id, Range="bytes=1000-")
    assert refusal(refused, 416, "range-not-satisfiable")["size_bytes"] == 1000
    head = await content(hand, job_id, method="HEAD", Range="bytes=5-9")
    assert (head.status_code, head.headers["content-length"], head.content) == (206, "5", b"")
    path = f"/v1/jobs/{job_id}/content?redirect=1"
    served = await hand.gateway.client.get(path, headers=hand.person.headers)
    assert (served.status_code, served.content) == (200, WHOLE), "a folder has no address of its own"


async def test_a_copy_of_nothing_is_nothing(hand: Hand, cdn: Cdn) -> None:
    job_id = await succeed(hand, cdn.put("empty.mp4", File(size=0)))
    await archive(hand)
    answer = await content(hand, job_id)
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "0", b"")
    assert refusal(await content(hand, job_id, Range="bytes=0-"), 416, "range-not-satisfiable")["size_bytes"] == 0


async def test_what_is_erased_while_there_is_no_archive_is_deleted_when_it_is_back(
    hand: Hand, cdn: Cdn, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await succeed(hand, cdn.put("boat.mp4", File()))
    await archive(hand)
    without = settings_for(hand.gateway.wiring.settings.database_url.get_secret_value(), FAL_REST_URL=cdn.url)
    async with by_hand(without, shared=True) as other:
        await erase(other.gateway.wiring, [(await hand.row(job_id))["id"]])
    assert "set it again" in caplog.text
    assert len(files_in(folder)) == 1
    await archive(hand)
    assert files_in(folder) == []
    assert await row_of(hand, job_id) is None


async def test_only_jobs_with_a_video_are_copied(hand: Hand, cdn: Cdn) -> None:
    canceled = await hand.submit()
    assert await hand.cancel(canceled) == 200
    bare = await hand.at_fal("running")
    hand.fal.answer("status", Completed(None, None))
    hand.fal.answer("result", Succeeded({"video": None}, FIVE))
    await hand.check()
    assert [await hand.status(job_id) for job_id in (canceled, bare)] == ["canceled", "succeeded"]
    assert [await row_of(hand, job_id) for job_id in (canceled, bare)] == [None, None]
    assert [(await hand.job(job_id))["content_url"] for job_id in (canceled, bare)] == [None, None]
    assert cdn.asked == []


@pytest.mark.parametrize(
    ("file", "video", "error"),
    [
        (File(status=503), {}, "it answered 503"),
        (File(size=300_000, breaks_after=140_000), {}, "it broke off"),
        (File(), {"file_size": 999}, "1000 bytes came"),
        (File(status=404), {}, "keeps it no longer"),
        (File(headers={"content-type": "text/html"}), {}, "no video"),
    ],
)
async def test_what_fails_is_tried_again_and_leaves_nothing_behind(
    hand: Hand, cdn: Cdn, folder: Path, file: File, video: dict[str, Any], error: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = cdn.put("trouble.mp4", file)
    job_id = await succeed(hand, url, **video)
    await archive(hand)
    row = await row_of(hand, job_id)
    assert row is not None
    assert error in row["error"]
    assert row["next_try_at"] is not None
    assert row["stored_at"] is None
    assert f"{job_id}: its video is not kept yet (try 1)" in caplog.text
    assert [name for name in files_in(folder) if "#" in name] == []
    (due,) = await hand.sql("SELECT next_try_at > now() + interval '3 s' AS later FROM outputs")
    assert due["later"]
    cdn.put("trouble.mp4", File(size=999 if video else 1000))
    await archive(hand)
    row = await row_of(hand, job_id)
    assert row is not None
    assert row["stored_at"] is not None
    assert row["tries"] == 2


async def test_what_fal_keeps_no_longer_is_given_up_and_the_operator_told(
    hand: Hand, cdn: Cdn, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await succeed(hand, cdn.put("away.mp4", File(status=500)))
    hand.clock.move(days=7, seconds=1)
    await archive(hand)
    row = await row_of(hand, job_id)
    assert row is not None
    assert (row["next_try_at"], row["stored_at"]) == (None, None)
    assert f"{job_id}: its video could not be kept, and is lost" in caplog.text
    metric = hand.gateway.wiring.metrics.registry.get_sample_value
    assert metric("falgate_output_tries_total", {"outcome": "given up"}) == 1


async def test_two_archives_at_once_copy_once(hand: Hand, cdn: Cdn) -> None:
    job_ids = [await succeed(hand, cdn.put(f"{n}.mp4", File())) for n in range(4)]
    cdn.asked.clear()
    await hand.sql("UPDATE outputs SET next_try_at = now()")
    await asyncio.gather(*(turn(Archive(hand.gateway.wiring)) for _ in range(3)))
    assert sorted(asked.path for asked in cdn.asked) == [f"/{n}.mp4" for n in range(4)]
    stored = [await row_of(hand, job_id) for job_id in job_ids]
    assert all(row is not None and row["stored_at"] is not None and row["tries"] == 1 for row in stored)


KILLED = """
import asyncio, json, sys
from app.outputs.archive import Archive
from app.wiring import wire
from tests.conftest import settings_for

async def main():
    archive = Archive(wire(settings_for(**json.loads(sys.argv[1]))))
    await archive._turn(4)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_an_archive_that_is_killed_in_the_middle_is_made_good_by_another(
    hand: Hand, cdn: Cdn, folder: Path, database_url: str
) -> None:
    size = 12_000_000  # more than the store is given at a time
    job_id = await succeed(hand, cdn.put("large.mp4", File(size=size, waits_after=9_000_000)))
    given = json.dumps({"database_url": database_url, "FAL_REST_URL": cdn.url, "OUTPUT_STORE": str(folder)})
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, given)
    try:
        await until(lambda: cdn.sent_now > 9_000_000, seconds=30)
    finally:
        process.kill()
        await process.wait()
    row = await row_of(hand, job_id)
    assert row is not None
    assert (row["stored_at"], row["tries"]) == (None, 1)
    await archive(hand, due=False)
    assert len(cdn.asked) == 1, "its lease is respected"
    cdn.put("large.mp4", File(size=size))
    await archive(hand)
    row = await row_of(hand, job_id)
    assert row is not None
    assert row["size_bytes"] == size
    assert files_in(folder) == [row["path"]], "nothing half written is left"
    assert (folder / row["path"]).stat().st_size == size


async def test_an_archive_that_is_told_to_end_gives_back_what_it_has_begun(hand: Hand, cdn: Cdn, folder: Path) -> None:
    job_id = await succeed(hand, cdn.put("slow.mp4", File(size=10**6, waits_after=100_000)))
    await hand.rooms.archive._turn(4)
    await until(lambda: bool(cdn.asked))
    await hand.rooms.archive.loop.stop(within_seconds=0)
    (row,) = await hand.sql("SELECT tries, next_try_at <= now() AS is_due FROM outputs WHERE job_id = $1", job_id[4:])
    assert (row["tries"], row["is_due"]) == (0, True)
    await until(lambda: files_in(folder) == [])


async def test_what_is_erased_is_deleted_and_may_be_erased_again(hand: Hand, cdn: Cdn, folder: Path) -> None:
    job_id = await succeed(hand, cdn.put("boat.mp4", File()))
    await archive(hand)
    ids = [(await hand.row(job_id))["id"]]
    for _ in range(2):
        await erase(hand.gateway.wiring, ids)
        assert files_in(folder) == []
        assert await row_of(hand, job_id) is None


async def test_what_cannot_be_erased_now_is_erased_later_and_not_shown_meanwhile(
    hand: Hand, cdn: Cdn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await succeed(hand, cdn.put("boat.mp4", File()))
    await archive(hand)

    async def away(_: str) -> None:
        raise StoreTrouble("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(hand.gateway.wiring.output_store, "delete", away)
        await erase(hand.gateway.wiring, [(await hand.row(job_id))["id"]])
        await archive(hand)
    assert len(files_in(folder)) == 1
    cdn.put("boat.mp4", File(status=404))
    refusal(await content(hand, job_id), 410, "video-lapsed")
    await archive(hand)
    assert files_in(folder) == []
    assert await row_of(hand, job_id) is None


async def test_a_store_that_is_away_is_waited_for_once_however_much_is_erased(
    hand: Hand, cdn: Cdn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_ids = [await succeed(hand, cdn.put(f"{n}.mp4", File())) for n in range(3)]
    await archive(hand)
    asked = []

    async def away(name: str) -> None:
        asked.append(name)
        raise StoreTrouble("it is away")

    with monkeypatch.context() as patch:
        patch.setattr(hand.gateway.wiring.output_store, "delete", away)
        await erase(hand.gateway.wiring, [(await hand.row(job_id))["id"] for job_id in job_ids])
    assert len(asked) == 1
    assert len(files_in(folder)) == 3
    await archive(hand)
    assert files_in(folder) == []
    assert [await row_of(hand, job_id) for job_id in job_ids] == [None] * 3


async def test_a_bucket_that_is_gone_is_trouble_like_any_other(
    hand: Hand, cdn: Cdn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await succeed(hand, cdn.put("boat.mp4", File()))

    async def gone(*_: Any, **__: Any) -> None:
        raise NotStored

    monkeypatch.setattr(hand.gateway.wiring.output_store, "write", gone)
    await archive(hand)
    row = await row_of(hand, job_id)
    assert row is not None
    assert "is the bucket still there" in row["error"]
    assert row["next_try_at"] is not None
    hand.clock.move(days=8)
    await archive(hand)
    row = await row_of(hand, job_id)
    assert row is not None
    assert row["next_try_at"] is None
    assert "and is lost" in caplog.text


async def test_what_is_erased_while_it_is_copied_does_not_stay(
    hand: Hand, cdn: Cdn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await succeed(hand, cdn.put("boat.mp4", File()))
    stored = rows.store_output

    async def erased_before(*given: Any, **named: Any) -> bool:
        await erase(hand.gateway.wiring, [(await hand.row(job_id))["id"]])
        (folder / str(given[1].path)).parent.mkdir(parents=True, exist_ok=True)
        (folder / str(given[1].path)).write_bytes(b"as if its last byte came only now")
        return await stored(*given, **named)

    monkeypatch.setattr(rows, "store_output", erased_before)
    await archive(hand)
    assert files_in(folder) == []
    row = await row_of(hand, job_id)
    assert row is not None, "looked for once more, in case whoever copied it has died"
    assert row["error"] == rows.ERASED
    await archive(hand)
    assert await row_of(hand, job_id) is None


async def test_a_copy_that_is_not_there_is_read_from_fal(
    hand: Hand, cdn: Cdn, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await succeed(hand, cdn.put("boat.mp4", File()))
    await archive(hand)
    row = await row_of(hand, job_id)
    assert row is not None
    (folder / row["path"]).unlink()
    assert (await content(hand, job_id)).content == WHOLE
    assert "is not where it was stored" in caplog.text


async def test_no_connection_of_the_pool_is_held_while_a_video_is_moved(
    hand: Hand, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiring = hand.gateway.wiring
    store = wiring.output_store
    assert store is not None
    asked = set()

    def watch(holder: Any, name: str) -> None:
        call = getattr(holder, name)

        async def watched(*given: Any, **named: Any) -> Any:
            asked.add(name)
            assert wiring.db._engine.pool.checkedout() == 0, name  # type: ignore[attr-defined]
            return await call(*given, **named)

        monkeypatch.setattr(holder, name, watched)

    for name in ("write", "size_of", "read", "delete", "link"):
        watch(store, name)
    watch(wiring.downloads, "open")
    job_id = await succeed(hand, cdn.put("boat.mp4", File()))
    await archive(hand)
    await content(hand, job_id)
    await hand.gateway.client.get(f"/v1/jobs/{job_id}/content?redirect=1", headers=hand.person.headers)
    await erase(wiring, [(await hand.row(job_id))["id"]])
    assert asked == {"write", "size_of", "read", "delete", "link", "open"}
