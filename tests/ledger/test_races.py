"""Races that really commit: 400 submits by 8 processes on two replicas, and never one too many.

The whole of it, twenty times each: `pytest -m slow tests/ledger/test_races.py`.
"""

import asyncio
import collections
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import pytest

from app.settings import Settings
from tests.conftest import ADMIN_KEY, FAL_KEY

from .house import FIVE, House, Someone, id_of

PROCESSES, EACH = 8, 50
SUBMITS = PROCESSES * EACH


Process = asyncio.subprocess.Process


@dataclass
class Replicas:
    """Two gateways on one database, eight processes that race, and a way into the database."""

    house: House
    urls: list[str]
    workers: list[Process]

    async def race(self, *runners: Someone, each: int = EACH) -> dict[str, int]:
        """Half of the processes at each replica, all at once; how often each status was answered."""
        for number, worker in enumerate(self.workers):
            tell(worker, f"{self.urls[number % 2]} {runners[number // 2 % len(runners)].secret} {each}")
        total: collections.Counter[str] = collections.Counter()
        for worker in self.workers:
            total.update(json.loads(await hear(worker)))
        return dict(total)


def tell(process: Process, line: str) -> None:
    assert process.stdin
    process.stdin.write(line.encode() + b"\n")


async def hear(process: Process) -> str:
    assert process.stdout
    return (await process.stdout.readline()).decode().strip()


async def start(module: str, **environment: str) -> Process:
    inherited = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=inherited | environment,
    )


@asynccontextmanager
async def two_replicas(settings: Settings) -> AsyncIterator[Replicas]:
    url = settings.database_url.get_secret_value()
    gateways = [
        await start("tests.ledger.replica", FAL_KEY=FAL_KEY, ADMIN_KEY=ADMIN_KEY, DATABASE_URL=url) for _ in range(2)
    ]
    workers = [await start("tests.ledger.race_worker") for _ in range(PROCESSES)]
    house = House(settings)
    try:
        house.clock.now = await house.value("SELECT now()")
        urls = [await hear(gateway) for gateway in gateways]
        assert [await hear(worker) for worker in workers] == ["ready"] * PROCESSES
        yield Replicas(house, urls, workers)
    finally:
        for one in (*workers, *gateways):
            await one.communicate(b"")  # closes its standard input: it ends
        await house.close()


async def one_quota(replicas: Replicas) -> None:
    house = replicas.house
    ann = await house.someone()
    quota = await house.quota("14.00", scope="user", scope_id=id_of("user", ann.user_id))
    assert await replicas.race(ann) == {"202": 10, "402": SUBMITS - 10}
    assert await house.usage(quota) == [(0, Decimal("14.00"))]
    await house.delete_quota(quota)


async def five_quotas(replicas: Replicas) -> None:
    """One of each scope but the end user's, and a hot one; the tightest decides, none is exceeded."""
    house = replicas.house
    ann = await house.someone()
    quotas = [
        await house.quota("140000.00", "usd", "month"),
        await house.quota(60, "seconds", "day", scope="team", scope_id=id_of("team", ann.team_id)),
        await house.quota("14.00", scope="user", scope_id=id_of("user", ann.user_id)),
        await house.quota(11, "jobs", "week", scope="key", scope_id=id_of("key", ann.key_id)),
        await house.quota(300, "in_flight", None, scope="user", scope_id=id_of("user", ann.user_id)),
    ]
    assert await replicas.race(ann) == {"202": 10, "402": SUBMITS - 10}
    assert [(await house.usage(quota))[-1] for quota in quotas[1:]] == [(0, 50), (0, 14), (10, 0), (0, 10)]
    for quota in quotas:
        await house.delete_quota(quota)


async def in_flight(replicas: Replicas) -> None:
    house = replicas.house
    ann = await house.someone()
    quota = await house.quota(5, "in_flight", None, scope="user", scope_id=id_of("user", ann.user_id))
    assert await replicas.race(ann) == {"202": 5, "429": SUBMITS - 5}
    assert await house.usage(quota) == [(0, 5)]
    await house.delete_quota(quota)


async def quotas_come_and_go(replicas: Replicas) -> None:
    """Made, changed and deleted meanwhile: what was held is never more than the largest maximum there was."""
    house = replicas.house
    house.clock.now = await house.value("SELECT now()")
    ann, bob = await house.someone(), await house.someone()
    always = await house.quota("56.00", scope="user")
    racing = asyncio.create_task(replicas.race(ann, bob))
    chance = random.Random(7)  # noqa: S311
    turns = 0
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        while not racing.done():
            turns += 1
            await keep_changing(client, replicas.urls[turns % 2], ann, chance)
    answers = await racing
    assert sum(answers.values()) == SUBMITS
    assert set(answers) <= {"202", "402", "429"}, answers
    assert turns > 0
    for who in (ann, bob):
        held = await house.value("SELECT coalesce(sum(held_usd), 0) FROM jobs WHERE user_id = $1", who.user_id)
        assert held <= Decimal("70.00")
    bobs = await house.value("SELECT sum(held_usd) FROM jobs WHERE user_id = $1", bob.user_id)
    assert bobs <= Decimal("56.00"), "bob had no quota of his own: the default held all the while"
    await house.delete_quota(always)


async def keep_changing(client: httpx.AsyncClient, url: str, ann: Someone, chance: random.Random) -> None:
    """A quota of ann's own, of the organization's, and of teams: made, changed, deleted."""
    admin = {"Authorization": f"Bearer {ADMIN_KEY}"}

    async def call(method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        answer = await client.request(method, url + path, json=body, headers=admin)
        assert answer.status_code in {200, 201, 204, 404, 409}, answer.text
        return answer

    wanted: list[dict[str, Any]] = [
        {"scope": "user", "scope_id": id_of("user", ann.user_id), "metric": "usd", "window": "day", "maximum": "70.00"},
        {"scope": "organization", "metric": "jobs", "window": "hour", "maximum": 1_000_000},
        {"scope": "team", "metric": "in_flight", "window": None, "maximum": 100},
    ]
    made = [(await call("POST", "/v1/quotas", body)).json().get("id") for body in wanted]
    for quota_id, body in zip(made, wanted, strict=True):
        if quota_id:
            lower = {"maximum": str(Decimal(body["maximum"]) - chance.randrange(20))}
            await call("PATCH", f"/v1/quotas/{quota_id}", lower)
    await asyncio.sleep(chance.random() / 20)
    for quota_id in made:
        if quota_id:
            await call("DELETE", f"/v1/quotas/{quota_id}")


RACES: dict[str, Callable[[Replicas], Awaitable[None]]] = {
    "one quota of 14.00 a day: 10 accepted, 390 refused": one_quota,
    "five quotas at once": five_quotas,
    "five in flight": in_flight,
    "quotas made, changed and deleted meanwhile": quotas_come_and_go,
}


async def test_400_submits_by_8_processes_on_two_replicas(settings: Settings) -> None:
    async with two_replicas(settings) as replicas:
        for race in RACES.values():
            await race(replicas)
            assert await replicas.house.audit() == []


@pytest.mark.slow
@pytest.mark.parametrize("race", RACES)
async def test_400_submits_by_8_processes_on_two_replicas_twenty_times(settings: Settings, race: str) -> None:
    async with two_replicas(settings) as replicas:
        for _ in range(20):
            await RACES[race](replicas)
            assert await replicas.house.audit() == []


async def test_four_hundred_at_once_in_one_process_on_two_pools(settings: Settings) -> None:
    """The same without HTTP, where what blocks is named: the first 10 hold, and none of the others."""
    house, other = House(settings), House(settings)
    ann = await house.someone()
    await house.quota("14.00", scope="user", scope_id=id_of("user", ann.user_id))
    asks = [at.submit(ann) for _ in range(200) for at in (house, other)]
    outcomes = await asyncio.gather(*asks, return_exceptions=True)
    assert sum(not isinstance(one, Exception) for one in outcomes) == 10
    assert await house.value("SELECT sum(held_usd) FROM jobs") == 10 * FIVE
    assert await house.audit() == []
    for each in (house, other):
        await each.close()
