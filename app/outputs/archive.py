"""The archive: copies videos to OUTPUT_STORE before fal's links can lapse, and deletes what is to be forgotten."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from typing import TYPE_CHECKING, Final
from uuid import UUID

from app.fal import Download, DownloadGone, DownloadTrouble, OutOfRange
from app.ids import show
from app.loop import Loop
from app.output_store import NotStored, StoreTrouble
from app.outputs import rows
from app.outputs.rows import Due, Kept
from app.outputs.types import safe_type
from app.wiring import Wiring

if TYPE_CHECKING:
    from app.output_store.store import OutputStore

log = logging.getLogger("falgate.outputs")

_PLACES: Final = 4
_REST_SECONDS: Final = 2.0
_GONE_AFTER_TRIES: Final = 5  # a file may take a moment to be everywhere at a CDN


class NotWhole(Exception):  # noqa: N818  a fact
    """What came is not as long as it was said to be."""


class Archive:
    """Copies from this process, as any number of others may do beside it: a row is its own queue entry."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self.loop = Loop("archive", self._turn, places=_PLACES, rest_seconds=_REST_SECONDS)

    async def _turn(self, free: int) -> int:
        store = self._wiring.output_store
        if store is None:
            return 0
        due = await rows.claim_outputs(self._wiring.db, free)
        for one in due:
            self.loop.start(self._delete(store, one) if one.is_erased else self._copy(store, one))
        return len(due)

    async def _copy(self, store: "OutputStore", due: Due) -> None:
        try:
            async with asyncio.timeout(rows.TRY_SECONDS):
                kept = await self._fetch(store, due)
        except DownloadGone:
            await self._failed(due, "fal keeps it no longer", is_last=due.tries >= _GONE_AFTER_TRIES)
        except NotStored:
            await self._failed(due, "the store has not kept it: is the bucket still there?")
        except TimeoutError:
            await self._failed(due, f"not done within {rows.TRY_SECONDS:.0f} s")
        except (DownloadTrouble, OutOfRange, StoreTrouble, NotWhole) as trouble:
            await self._failed(due, str(trouble) or type(trouble).__name__)
        except asyncio.CancelledError:
            await rows.give_back(self._wiring.db, due)
            raise
        else:
            await self._store(store, due, kept)

    async def _fetch(self, store: "OutputStore", due: Due) -> Kept:
        async with aclosing(await self._wiring.downloads.open(due.url)) as download:
            content_type = safe_type(download.content_type, due.content_type)
            count = _Count(download)
            await store.write(due.path, count.chunks(), content_type=content_type)
        told = {download.length, int(due.file_size) if due.file_size and due.file_size.isdecimal() else None}
        if told - {None, count.size_bytes}:
            raise NotWhole(f"{count.size_bytes} bytes came, and fal had said otherwise")
        if await store.size_of(due.path) != count.size_bytes:
            raise NotWhole("the store holds less than was written to it")
        return Kept(content_type=content_type, size_bytes=count.size_bytes, sha256=count.digest.digest())

    async def _store(self, store: "OutputStore", due: Due, kept: Kept) -> None:
        settings, now = self._wiring.settings, self._wiring.clock()
        if await rows.store_output(self._wiring.db, due, kept, days=settings.payload_days, now=now):
            self._wiring.metrics.output_tries.labels("stored").inc()
        elif not await rows.is_wanted(self._wiring.db, due.job_id):
            await store.delete(due.path)

    async def _failed(self, due: Due, error: str, *, is_last: bool = False) -> None:
        is_last = is_last or due.expires_at is None or due.expires_at <= self._wiring.clock()
        await rows.try_later(self._wiring.db, due, error=error, is_last=is_last)
        self._wiring.metrics.output_tries.labels("given up" if is_last else "failed").inc()
        about = {"job_id": show("job", due.job_id)}
        if is_last:
            log.error("job_%s: its video could not be kept, and is lost: %s", due.job_id.hex, error, extra=about)
        else:
            log.warning("job_%s: its video is not kept yet (try %d): %s", due.job_id.hex, due.tries, error, extra=about)

    async def _delete(self, store: "OutputStore", due: Due) -> None:
        try:
            await store.delete(due.path)
        except StoreTrouble as trouble:
            log.warning("job_%s: its erased video is not deleted yet: %s", due.job_id.hex, trouble)
            await rows.erase_later(self._wiring.db, due)
        else:
            await rows.remove_erased(self._wiring.db, [due.job_id])


async def erase(wiring: Wiring, job_ids: Collection[UUID]) -> None:
    """Delete the kept videos of these jobs; those that cannot be deleted now, the archive deletes later.

    May be asked again and again. No transaction is open while the store is asked. Raises nothing of the store's.
    """
    async with wiring.db.begin_plain() as plain:
        marked = await rows.mark_erased(plain, job_ids)
    store = wiring.output_store
    if store is None:
        if marked:
            log.warning("%d erased videos lie where OUTPUT_STORE was: set it again to have them deleted", len(marked))
        return
    gone = []
    for one in marked:
        try:
            await store.delete(one.path)
        except StoreTrouble as trouble:
            log.warning("job_%s: its erased video is not deleted yet: %s", one.job_id.hex, trouble)
            break  # each would be waited for, and a store that is away is so for all of them
        if not one.is_open:
            gone.append(one.job_id)
    if gone:
        await rows.remove_erased(wiring.db, gone)


class _Count:
    """The length and the digest of what goes through."""

    def __init__(self, download: Download) -> None:
        self._download = download
        self.size_bytes = 0
        self.digest = hashlib.sha256()

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._download.chunks():
            self.size_bytes += len(chunk)
            self.digest.update(chunk)
            yield chunk
