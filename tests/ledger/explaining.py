"""A connection that has Postgres explain each statement before it runs, and what it explained."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import asyncpg

BIG = {
    *("jobs", "entries", "attempts", "quota_usage", "payloads", "idempotency_keys"),
    *("outputs", "job_logs", "files", "erasures", "deliveries", "refusals", "spend_daily", "fal_bills"),
}


@dataclass
class Ran:
    """A statement as Postgres ran it."""

    query: str
    plan: dict[str, Any]

    def nodes(self) -> Iterator[dict[str, Any]]:
        waiting = [self.plan]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", [])

    @property
    def buffers(self) -> int:
        return int(self.plan["Shared Hit Blocks"]) + int(self.plan["Shared Read Blocks"])

    @property
    def scans(self) -> list[str]:
        return [n["Relation Name"] for n in self.nodes() if n["Node Type"] == "Seq Scan" and n["Relation Name"] in BIG]

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes() if "Index Name" in node}


_TOLD = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")


class Explaining(asyncpg.Connection):
    """A connection that has Postgres explain each statement before it runs it."""

    ran: ClassVar[list[Ran]] = []
    __slots__ = ()

    async def _explain(self, query: str, values: tuple[Any, ...]) -> None:
        if not _TOLD.match(query) or query.startswith("SELECT pg_"):
            return
        inside = self.is_in_transaction()
        await super().execute("SAVEPOINT told" if inside else "BEGIN")
        try:
            told = await super().fetchval(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {query}", *values)
            self.ran.append(Ran(query, (json.loads(told) if isinstance(told, str) else told)[0]["Plan"]))
        finally:
            await super().execute("ROLLBACK TO told" if inside else "ROLLBACK")

    async def prepare(self, query: str, **more: Any) -> Any:
        return Prepared(self, query, await super().prepare(query, **more))

    async def fetch(self, query: str, *values: Any, **more: Any) -> Any:
        await self._explain(query, values)
        return await super().fetch(query, *values, **more)

    async def fetchrow(self, query: str, *values: Any, **more: Any) -> Any:
        await self._explain(query, values)
        return await super().fetchrow(query, *values, **more)

    async def fetchval(self, query: str, *values: Any, **more: Any) -> Any:
        await self._explain(query, values)
        return await super().fetchval(query, *values, **more)

    async def execute(self, query: str, *values: Any, **more: Any) -> Any:
        await self._explain(query, values)
        return await super().execute(query, *values, **more)

    async def cursor(self, query: str, *values: Any, **more: Any) -> Any:  # type: ignore[override]  # always awaited
        await self._explain(query, values)
        return await super().cursor(query, *values, **more)


class Prepared:
    """A statement of SQLAlchemy's, explained each time that it runs."""

    def __init__(self, connection: Explaining, query: str, prepared: Any) -> None:
        self._connection = connection
        self._query = query
        self._prepared = prepared

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prepared, name)

    async def fetch(self, *values: Any, **more: Any) -> Any:
        await self._connection._explain(self._query, values)
        return await self._prepared.fetch(*values, **more)
