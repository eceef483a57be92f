"""OUTPUT_STORE: what is taken for one, a folder and a bucket by the same calls, and what is said of a wrong one."""

import errno
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from obstore.store import MemoryStore

from app.output_store import NotStored, StoreTrouble, open_store
from app.output_store.store import OutputStore
from app.outputs.serving import Video, Wanted, find_link, open_video
from app.wiring import unwire, wire
from tests.conftest import settings_for

from .bucket import KEY, KEY_ID, Bucket, run_bucket

pytestmark = pytest.mark.asyncio(loop_scope="package")

NOWHERE = "postgresql://127.0.0.1:1/nothing"
LARGE = bytes(range(251)) * 80_000  # three parts


@pytest_asyncio.fixture(loop_scope="package")
async def bucket() -> AsyncIterator[Bucket]:
    async with run_bucket() as running:
        yield running


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), 65_536):
        yield content[at : at + 65_536]


async def read(store: OutputStore, name: str, start: int, end: int) -> bytes:
    return b"".join([piece async for piece in await store.read(name, start=start, end=end)])


def opened(**settings: str) -> OutputStore:
    store = open_store(settings_for(NOWHERE, **settings))
    assert store is not None
    return store


async def try_out(store: OutputStore) -> None:
    await store.require_writable()
    for content in (b"", b"small", LARGE):
        await store.write("2026/11/a.mp4", pieces(content), content_type="video/mp4")
        assert await store.size_of("2026/11/a.mp4") == len(content)
    assert await read(store, "2026/11/a.mp4", 5, len(LARGE)) == LARGE[5:]
    assert await read(store, "2026/11/a.mp4", 7, 9) == LARGE[7:9]
    for _ in range(2):
        await store.delete("2026/11/a.mp4")
    with pytest.raises(NotStored):
        await store.size_of("2026/11/a.mp4")
    with pytest.raises(NotStored):
        await store.read("2026/11/a.mp4", start=0, end=1)


async def test_a_folder_keeps_videos(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "outputs"
    await try_out(opened(OUTPUT_STORE=str(folder)))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path for path in folder.rglob("*") if path.is_file()] == []


async def test_a_bucket_keeps_videos(bucket: Bucket) -> None:
    await try_out(opened(**bucket.settings))
    assert (bucket.objects, bucket.uploads) == ({}, {})


async def test_any_store_of_obstore_does_as_well() -> None:
    await try_out(OutputStore("s3://memory", store=MemoryStore()))


async def test_what_breaks_off_leaves_nothing_in_a_bucket(bucket: Bucket) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for piece in [piece async for piece in pieces(LARGE)][:-1]:
            yield piece
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await opened(**bucket.settings).write("a.mp4", broken(), content_type="video/mp4")
    assert (bucket.objects, bucket.uploads) == ({}, {})


async def test_a_bucket_is_served_from_and_led_to(bucket: Bucket) -> None:
    wiring = wire(settings_for(NOWHERE, **bucket.settings))
    assert wiring.output_store is not None
    await wiring.output_store.write("a.mp4", pieces(LARGE), content_type="video/mp4")
    assert list(bucket.objects) == ["kept/a.mp4"]
    video = Video(
        job_id=UUID(int=1), url="https://fal.media/a.mp4", told_type=None,
        expires_at=datetime.now(UTC), path="a.mp4", content_type="video/mp4", size_bytes=len(LARGE), sha256=bytes(32),
    )  # fmt: skip
    content = await open_video(wiring, video, Wanted())
    assert b"".join([chunk async for chunk in content.chunks]) == LARGE
    link = await find_link(wiring, video)
    assert link is not None
    assert urlsplit(link).path == "/videos/kept/a.mp4"
    assert KEY not in link
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(link)).content == LARGE
    await unwire(wiring)


async def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreTrouble, match="cannot be made") as refused:
        opened(OUTPUT_STORE=str(tmp_path / "file" / "outputs"))
    assert refused.value.is_refusal


async def test_a_disk_that_fails_is_trouble_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(OUTPUT_STORE=str(tmp_path / "my videos"))
    await store.write("a.mp4", pieces(b"small"), content_type="video/mp4")

    def fail(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StoreTrouble, match="Input/output error"):
        await store.write("a.mp4", pieces(b"other"), content_type="video/mp4")
    (tmp_path / "my videos" / "a.mp4#1").mkdir()
    with pytest.raises(StoreTrouble):
        await store.delete("a.mp4")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"AWS_ACCESS_KEY_ID": "another"}, "refuses the AWS_ keys"), ({"OUTPUT_STORE": "s3://other"}, "no such bucket")],
)
async def test_a_bucket_that_refuses_us_is_refused(bucket: Bucket, wrong: dict[str, str], said: str) -> None:
    with pytest.raises(StoreTrouble, match=said) as refused:
        await opened(**(bucket.settings | wrong)).require_writable()
    assert refused.value.is_refusal
    assert KEY_ID not in str(refused.value)


async def test_a_bucket_that_is_away_may_come_back(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.output_store.store._RETRIES", 0)
    bucket.status = 503
    with pytest.raises(StoreTrouble) as trouble:
        await opened(**bucket.settings).require_writable()
    assert not trouble.value.is_refusal
    assert KEY_ID not in str(trouble.value)
