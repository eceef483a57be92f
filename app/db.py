"""The database: one pool, and the one place where a transaction is committed.

`db` as a first parameter says "I open the transaction and commit it"; `tx` says "it is yours, I never commit".
Connections are in autocommit mode as far as SQLAlchemy knows: BEGIN and COMMIT are ours, so that Core statements
and asyncpg's own statements share one transaction and one commit site.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from enum import IntEnum, unique
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

import asyncpg
from sqlalchemy import NUMERIC, TIMESTAMP, MetaData, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

metadata: Final = MetaData()

MONEY: Final[NUMERIC[Decimal]] = NUMERIC(20, 9)
"""The column type of dollars, seconds and every figure of a quota."""

MOMENT: Final = TIMESTAMP(timezone=True)
"""The column type of every `_at`."""

Tx: TypeAlias = AsyncConnection
Plain: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SCHEMA_REVISION: Final = "0004"
"""The migration that this code was written for."""


@unique
class Lock(IntEnum):
    """Every advisory lock of this house, by the number that Postgres knows it by."""

    QUOTAS = 7_341_001
    MIGRATE = 7_341_002
    RELEASE = 7_341_003
    STANDING = 7_341_004
    FOLD_ENDED = 7_341_005
    LOST = 7_341_006
    ALERTS = 7_341_011
    RECONCILE = 7_341_012


_COMMAND_SECONDS: Final = 8.0  # longer than statement_timeout, with which Postgres itself gives up
_CONNECT_SECONDS: Final = 3.0
_POOL_SECONDS: Final = 4.0
_ROLLBACK_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 1.0
_LOOK_UP_SECONDS: Final = 5.0
_LOOK_AGAIN_SECONDS: Final = 0.2
_SESSION: Final = {
    "timezone": "UTC",
    "jit": "off",
    "idle_in_transaction_session_timeout": "60s",
}
_SOON: Final = {"lock_timeout": "4s", "statement_timeout": "7s"}
_PATIENT: Final = {"lock_timeout": "10s", "statement_timeout": "30s"}
_WITNESS: Final = "falgate witness"


class CommitUnknown(Exception):  # noqa: N818  it is a state of knowledge, not an error
    """The connection broke during COMMIT: the transaction may or may not have happened. Look before you speak."""


_LOST: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""After one of these a connection is of no more use: it is broken, silent (TimeoutError is an OSError), or leads to a
server that has become a standby."""


def sql_moment(column: str) -> str:
    """The SQL that writes a moment as JSON has it: ISO 8601, UTC, microseconds."""
    return f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""


def driver_url(url: str) -> str:
    """What asyncpg takes: `postgres://`, `postgresql://` or `postgresql+asyncpg://`, libpq's options kept."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql{separator}{rest}" if scheme.split("+")[0] in {"postgres", "postgresql"} else url


class Database:
    """A pool of connections to one Postgres."""

    def __init__(self, url: str, *, pool_size: int = 10, command_seconds: float | None = _COMMAND_SECONDS) -> None:
        """Give up on a statement after `command_seconds` of silence: a dead connection must not hold up a process.

        None is for commands: no bound on silence, and more patience with locks and long statements than callers have.
        """
        self._url = driver_url(url)
        self._command_seconds = command_seconds
        self.name = f"falgate-{secrets.token_hex(8)}"  # Postgres knows all its connections by it
        self._session = _SESSION | (_PATIENT if command_seconds is None else _SOON) | {"application_name": self.name}
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.connect,
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=_POOL_SECONDS,
            pool_pre_ping=False,
            hide_parameters=True,  # an error in the log shows no values
        )
        event.listen(self._engine.sync_engine, "checkout", _replace_closed)

    async def connect(self) -> Plain:
        """A connection outside the pool; the caller closes it."""
        return await asyncpg.connect(
            self._url,
            server_settings=self._session,
            timeout=_CONNECT_SECONDS,
            command_timeout=self._command_seconds,
        )

    async def close(self) -> None:
        """Close every connection of the pool; a server that is silent is not waited for."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._engine.dispose(), _CLOSE_SECONDS)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for single statements; nothing spans them."""
        async with self._lend() as (connection, _):
            yield connection

    @asynccontextmanager
    async def plain(self) -> AsyncIterator[Plain]:
        """As `reading`, but asyncpg's own connection, for the hot paths."""
        async with self._lend() as (_, plain):
            yield plain

    @asynccontextmanager
    async def _lend(self) -> AsyncIterator[tuple[AsyncConnection, Plain]]:
        async with self._engine.connect() as connection:
            plain = await plain_of(connection)
            try:
                yield connection, plain
            except Exception as error:
                if isinstance(_root_of(error), _LOST):
                    await _discard(connection, plain)  # SQLAlchemy does not see the driver's own errors
                raise

    @asynccontextmanager
    async def begin(self, *, durable: bool = True) -> AsyncIterator[Tx]:
        """A transaction: committed when the block ends, rolled back when it raises.

        Not `durable`: a crash of Postgres may forget it (for leases and sightings, never for money).
        When the answer to COMMIT was lost, whoever left a witness is told what happened: the block ends well, or the
        error of the connection is raised. Raises CommitUnknown when there is none, or nobody can be asked.
        """
        async with self._engine.connect() as connection:
            info = connection.info
            info.pop(_WITNESS, None)
            try:
                async with _transaction(connection, await plain_of(connection), durable=durable):
                    yield connection
            except CommitUnknown as unknown:
                witness = info.pop(_WITNESS, None)
                if witness is None:
                    raise
                if not await self._has_happened(*witness):
                    raise ConnectionResetError("the connection broke before the COMMIT") from unknown

    @asynccontextmanager
    async def begin_plain(self, *, durable: bool = True, first: str = "") -> AsyncIterator[Plain]:
        """As `begin`, but asyncpg's own connection, for the hot paths.

        `first` is a statement of its own that goes out together with BEGIN: a lock, which the snapshots of all that
        follows are then younger than.
        """
        async with self._engine.connect() as connection:
            plain = await plain_of(connection)
            async with _transaction(connection, plain, durable=durable, first=first):
                yield plain

    async def _has_happened(self, probe: str, key: UUID) -> bool:
        """Ask the witness of a transaction whose COMMIT went unanswered. Raises CommitUnknown."""
        give_up_at = time.monotonic() + _LOOK_UP_SECONDS
        while True:
            try:
                async with self.begin_plain() as plain:
                    is_missing = await plain.fetchval(probe, key) is not None
                    await plain.execute("ROLLBACK; BEGIN")  # it was only asked
            except Exception as error:
                if not is_database_away(error) or time.monotonic() > give_up_at:
                    raise CommitUnknown from error
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
            else:
                return not is_missing

    async def schema_revision(self) -> str | None:
        """The newest migration that the database has seen; None for an empty one."""
        async with self.reading() as tx:
            if await tx.scalar(text("SELECT to_regclass('alembic_version')")) is None:
                return None
            return cast("str | None", await tx.scalar(text("SELECT version_num FROM alembic_version")))


def _replace_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Nobody is given a connection that was closed meanwhile, say by a restart of Postgres; costs no round trip."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


async def plain_of(connection: AsyncConnection) -> Plain:
    """asyncpg's own connection, in the same transaction."""
    raw = await connection.get_raw_connection()
    return cast("Plain", raw.driver_connection)


@asynccontextmanager
async def _transaction(
    connection: AsyncConnection, plain: Plain, *, durable: bool, first: str = ""
) -> AsyncIterator[None]:
    try:
        begin = "BEGIN" if durable else "BEGIN; SET LOCAL synchronous_commit = off"
        await plain.execute(f"{begin}; {first}" if first else begin)
        yield
    except BaseException as error:
        if isinstance(_root_of(error), _LOST):
            await _discard(connection, plain)
        else:
            await _roll_back(connection, plain)
        raise
    await _commit(connection, plain)


async def _commit(connection: AsyncConnection, plain: Plain) -> None:
    try:
        await plain.execute("COMMIT")
    except asyncio.CancelledError:
        await connection.invalidate()
        raise
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresError) as error:
        if _refuses(error):
            await _roll_back(connection, plain)
            raise
        await _discard(connection, plain)
        raise CommitUnknown from error


def _refuses(error: Exception) -> bool:
    """Whether Postgres itself said that it did not commit. A connection that ends, also by FATAL, says nothing."""
    is_lost = isinstance(error, asyncpg.PostgresConnectionError)  # asyncpg's own, though it calls it Postgres'
    return isinstance(error, asyncpg.PostgresError) and not is_lost and error.severity_en == "ERROR"


async def _roll_back(connection: AsyncConnection, plain: Plain) -> None:
    """Whatever state the connection is in, the pool gets back a clean one or none."""
    with suppress(Exception):
        if not plain.is_closed():
            await asyncio.wait_for(plain.execute("ROLLBACK"), timeout=_ROLLBACK_SECONDS)
            return
    await _discard(connection, plain)


async def _discard(connection: AsyncConnection, plain: Plain) -> None:
    """Nobody gets this connection again, and nobody waits for a server that is silent to agree."""
    with suppress(Exception):
        plain.terminate()
    with suppress(Exception):
        await connection.invalidate()


def leave_witness(tx: Tx, probe: str, key: UUID) -> None:
    """How to find out whether this transaction happened, should the answer to its COMMIT be lost.

    `probe` is a statement on a key of a row that the transaction inserts: it inserts that row too, ON CONFLICT DO
    NOTHING, and returns something when it could. So it waits for a transaction that is still on its way. What it
    inserts is rolled back.
    """
    tx.info[_WITNESS] = probe, key


def is_database_away(error: BaseException) -> bool:
    """Whether Postgres could not be reached, or gave up for others' sake, rather than that a statement was wrong."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    away: tuple[type[BaseException], ...] = (
        *_LOST,
        PoolTimeout,
        CommitUnknown,
        asyncpg.InsufficientResourcesError,
        asyncpg.DeadlockDetectedError,
        asyncpg.LockNotAvailableError,
        asyncpg.QueryCanceledError,
        asyncpg.IdleInTransactionSessionTimeoutError,
    )
    return isinstance(_root_of(error), away)


def _root_of(error: BaseException) -> BaseException:
    """The driver's own error: SQLAlchemy wraps its adapter's, and that has asyncpg's as its cause."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return error
    return error.orig.__cause__ if error.orig.__cause__ is not None else error.orig


def rows_as_dicts(result: Any) -> list[dict[str, Any]]:
    """All rows of a result as plain dicts."""
    return [dict(row) for row in result.mappings()]
