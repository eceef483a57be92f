"""When each key was last used: remembered while requests run, written beside them, at most once a minute."""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, text

from app.accounts.callers import Caller, sql_stale
from app.db import MOMENT, Database

# Two replicas may flush the same keys: each takes what the other does not hold just now, and nobody waits.
_WRITE: Final = text(
    "UPDATE keys SET last_used_at = :now WHERE id IN"  # noqa: S608  ours
    f" (SELECT k.id FROM keys k WHERE k.id = ANY(:ids) AND {sql_stale(':now')} FOR NO KEY UPDATE SKIP LOCKED)"
).bindparams(bindparam("now", type_=MOMENT), bindparam("ids", type_=ARRAY(Uuid())))


class LastUsed:
    """Keys seen since the last flush whose `last_used_at` the look-up called stale; one for each process."""

    def __init__(self) -> None:
        self._seen: set[UUID] = set()

    def saw(self, key_id: UUID) -> None:
        """Remember a stale key; costs no database call."""
        self._seen.add(key_id)

    def saw_caller(self, caller: Caller) -> None:
        """As `saw`, if the caller's key is stale."""
        if caller.is_stale:
            self._seen.add(caller.key_id)

    async def flush(self, db: Database, *, now: datetime) -> None:
        """Write what was seen, in one statement; should that fail, it is remembered for the next time."""
        seen, self._seen = self._seen, set()
        if not seen:
            return
        try:
            async with db.begin(durable=False) as tx:
                await tx.execute(_WRITE, {"now": now, "ids": list(seen)})
        except BaseException:
            self._seen |= seen
            raise
