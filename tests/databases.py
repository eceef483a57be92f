"""Databases that tests borrow one after the other: to empty one takes a tenth of the time that a new one takes."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg

from app.db import Plain
from app.embedded import EmbeddedPostgres

_LENDS: Final = 60  # then its tables are mostly what was deleted
_CATALOGS: Final = ("pg_class", "pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_trigger", "pg_proc")
_SCHEMA: Final = " UNION ALL ".join(
    f"SELECT '{name}', count(*), max(xmin::text::bigint) FROM {name}"  # noqa: S608  ours
    for name in _CATALOGS
)
_TABLES: Final = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
_END_OTHERS: Final = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""


class Databases:
    """Copies of a migrated database, each lent again once it is empty; one whose schema was changed is dropped."""

    def __init__(self, postgres: EmbeddedPostgres, template: str) -> None:
        self._postgres = postgres
        self._template = template
        self._loop = asyncio.new_event_loop()
        self._connections: dict[str, asyncpg.Connection] = {}
        self._free: list[str] = []
        self._lends: dict[str, int] = {}
        self._schemas: dict[str, list[Any]] = {}
        self._tables: list[str] = []
        self._first_rows: dict[str, bytes] = {}
        self._once(template, self._learn)

    @contextmanager
    def lent(self) -> Iterator[str]:
        """The URL of a database with the newest schema and the first prices, and nothing else."""
        name = self._free.pop() if self._free else self._make()
        self._lends[name] += 1
        yield self._postgres.dsn(name)
        if self._lends[name] < _LENDS and self._at(name, lambda lent: self._empty(name, lent)):
            self._free.append(name)
        else:
            self._connections.pop(name).terminate()
            self._once("postgres", lambda server: server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'))

    def close(self) -> None:
        for connection in self._connections.values():
            connection.terminate()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _make(self) -> str:
        name = f"test_{len(self._lends)}"
        self._postgres.create_database(name, self._template)
        self._schemas[name] = self._at(name, _schema_of)
        self._lends[name] = 0
        return name

    def _at(self, name: str, act: Callable[[Plain], Awaitable[Any]]) -> Any:
        """Over a connection that is kept, as making one takes longer than what is done; tests may have ended it."""

        async def connected() -> Any:
            try:
                await self._connections[name].execute("SELECT")
            except (KeyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self._connections[name] = await asyncpg.connect(self._postgres.dsn(name))
            return await act(self._connections[name])

        return self._loop.run_until_complete(connected())

    def _once(self, name: str, act: Callable[[Plain], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            connection = await asyncpg.connect(self._postgres.dsn(name))
            try:
                return await act(connection)
            finally:
                await connection.close()

        return self._loop.run_until_complete(connected())

    async def _learn(self, template: Plain) -> None:
        self._tables = [row["tablename"] for row in await template.fetch(_TABLES)]
        for table in self._tables:
            rows = io.BytesIO()
            if await template.copy_from_table(table, output=rows, format="binary") != "COPY 0":
                self._first_rows[table] = rows.getvalue()

    async def _empty(self, name: str, lent: Plain) -> bool:
        """As new again, without whoever is still connected; False where the schema was changed."""
        while await lent.fetchval(_END_OTHERS):
            pass  # Postgres' own wait for them looks every 100 ms, at one after the other
        if await _schema_of(lent) != self._schemas[name]:
            return False
        deletes = "; ".join(f'DELETE FROM "{table}"' for table in self._tables)  # noqa: S608  ours
        await lent.execute(f"SET session_replication_role = replica; {deletes}")
        for table, rows in self._first_rows.items():
            await lent.copy_to_table(table, source=io.BytesIO(rows), format="binary")
        return True


async def _schema_of(connection: Plain) -> list[Any]:
    """How many rows each catalog has, and its newest: no change of the schema leaves both as they were."""
    return [tuple(row) for row in await connection.fetch(_SCHEMA)]
