"""PAYLOAD_DAYS: what ended longer ago is erased, batch after batch, by whichever replica comes first.

How far it has come is one row (`forgetting.through`, a `finished_at`), so that nothing erased is looked at again and an
ending writes no further index: the one on `finished_at` is there. No job ends before `through` any more: an ending is
written within a minute of the clock that it carries (`ended`), and `through` is days old. What is erased cannot be had
back, so it must be old by this clock and by the database's; and where a clock went back, `through` goes back with it.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from app.ids import first_id
from app.jobs.forgetting.fal_copies import FalCopies
from app.jobs.forgetting.forget import forget_jobs
from app.loop import Loop
from app.outputs import archive
from app.wiring import Wiring

_REST_SECONDS: Final = 60.0
_BATCH: Final = 100
_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)

_THROUGH: Final = """
WITH back AS (UPDATE forgetting SET through = $2 WHERE through > $2)
SELECT least(coalesce(through, $1), $2) FROM forgetting
"""
# Jobs that ended in one transaction have one `finished_at`: they go together.
_OLD: Final = f"""
SELECT id, finished_at, payload_erased_at FROM jobs WHERE finished_at > $1 AND finished_at < $2
ORDER BY finished_at FETCH FIRST {_BATCH} ROWS WITH TIES
"""  # noqa: S608  ours
_COME_TO: Final = "UPDATE forgetting SET through = greatest(through, $1)"
_FORGET_FILES: Final = f"""
DELETE FROM files WHERE id IN (SELECT id FROM files WHERE id < $1 ORDER BY id LIMIT {_BATCH}) RETURNING id
"""  # noqa: S608  ours


class Forgetting:
    """One a process; what two do at once is done once."""

    def __init__(self, wiring: Wiring, fal_copies: FalCopies) -> None:
        self._wiring = wiring
        self._fal_copies = fal_copies
        self.loop = Loop("forgetting", self._turn, places=1, rest_seconds=_REST_SECONDS)

    async def _turn(self, _free: int) -> int:
        async with self._wiring.db.plain() as plain:
            now = min(self._wiring.clock(), await plain.fetchval("SELECT now()"))
        before = now - timedelta(days=self._wiring.settings.payload_days)
        return await self._forget_jobs(before) + await self._forget_files(before)

    async def _forget_jobs(self, before: datetime) -> int:
        wiring = self._wiring
        async with wiring.db.plain() as plain:
            old: list[Any] = await plain.fetch(_OLD, await plain.fetchval(_THROUGH, _BEGINNING, before), before)
        if not old:
            return 0
        kept = [row["id"] for row in old if row["payload_erased_at"] is None]
        async with wiring.db.begin_plain() as plain:
            await plain.execute(_COME_TO, old[-1]["finished_at"])  # first: it is the lock between replicas
            erased = await forget_jobs(plain, kept, wiring=wiring, now=wiring.clock())
        await archive.erase(wiring, erased)
        self._fal_copies.loop.wake()
        return len(old)

    async def _forget_files(self, before: datetime) -> int:
        """Who uploaded what, under which name; the file itself is fal's, for as long as fal keeps it."""
        async with self._wiring.db.begin_plain(durable=False) as plain:
            return len(await plain.fetch(_FORGET_FILES, first_id(before)))
