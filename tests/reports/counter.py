"""Where large reports are handed out: a gateway on loopback, somebody of each role, and what they are given."""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx

from app.ledger.spend import rebuild_spend
from app.settings import Settings, wheel_zone
from tests.gateway import ADMIN, Gateway, Person, run_gateway
from tests.ledger.house import Clock
from tests.reports.history import Job, Maker, write

BERLIN = wheel_zone("Europe/Berlin")


class Counter:
    """Film has Mia and a lead; the stranger is of another team."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        self.gateway = gateway
        self.clock = clock
        self.people: dict[str, Person] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Counter"]:
        clock = Clock()
        async with run_gateway(settings, clock=clock, work=False) as gateway:
            counter = cls(gateway, clock)
            mia = await gateway.make_person()
            counter.people = {
                "mia": mia,
                "lead": await gateway.make_person("lead", mia.team_id),
                "stranger": await gateway.make_person(),
                "finance": await gateway.make_person("finance"),
                "admin": await gateway.make_person("admin"),
            }
            yield counter

    def by(self, who: str, **more: Any) -> Maker:
        person = self.people[who]
        team, user, key = (UUID(made.partition("_")[2]) for made in (person.team_id, person.user_id, person.key_id))
        return Maker(team, user, key, **more)

    async def fill(self, *history: Job, now: datetime) -> None:
        """Write it, and let it be now."""
        self.clock.now = now
        async with self.gateway.wiring.db.plain() as plain:
            await plain.execute("DELETE FROM closed_months")
        await write(self.gateway.wiring.db, history)
        await rebuild_spend(self.gateway.wiring.db, zone=BERLIN)

    async def ask(self, path: str, who: str = "ADMIN_KEY") -> httpx.Response:
        headers = ADMIN if who == "ADMIN_KEY" else self.people[who].headers
        return await self.gateway.client.get(f"/v1/reports/{path}", headers=headers)

    async def lines(self, path: str, who: str = "ADMIN_KEY") -> list[dict[str, str]]:
        """The lines of a CSV, read as strictly as RFC 4180 has it."""
        answer = await self.ask(path, who)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
        return lines_of(answer.text)


def lines_of(text: str) -> list[dict[str, str]]:
    assert text.endswith("\r\n")
    header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert all(len(row) == len(header) for row in rows)
    return [dict(zip(header, row, strict=True)) for row in rows]


def total(lines: Sequence[dict[str, str]], column: str) -> Decimal:
    return sum((Decimal(line[column]) for line in lines), Decimal(0))


def shown(kind: str, made: UUID) -> str:
    return f"{kind}_{made.hex}"
