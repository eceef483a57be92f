"""The quotas' lock: held shared by whoever holds or settles, exclusively by whoever changes what is counted.

It is an advisory lock of the transaction. Take it in a statement of its own: a statement's snapshot is older than the
locks that it waits for, so what it read beside the lock may have changed.
"""

from typing import Final

from sqlalchemy import text

from app.db import Lock, Plain, Tx

SHARED_LOCK: Final = f"pg_advisory_xact_lock_shared({Lock.QUOTAS})"
# With it come statements that count for minutes: PostgreSQL must notice when nobody waits for them any more.
EXCLUSIVE_LOCK: Final = (
    f"set_config('client_connection_check_interval', '2s', true), pg_advisory_xact_lock({Lock.QUOTAS})"
)


async def keep_quotas_still(plain: Plain) -> None:
    """From here to the end of the transaction no quota is made, changed or deleted, and no window filled."""
    await plain.execute(f"SELECT {SHARED_LOCK}")


async def lock_quotas(tx: Tx) -> None:
    """Wait until no hold and no settle is under way, and keep new ones out until the transaction ends."""
    await tx.execute(text(f"SELECT {EXCLUSIVE_LOCK}"))
