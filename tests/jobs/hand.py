"""A gateway whose loops are turned by hand, in front of a fal whose answers are scripted."""

import asyncio
import itertools
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import httpx

from app import main, wiring
from app.accounts.key_secrets import hash_of, new_secret, shown_prefix
from app.fal import (
    Accepted,
    BillableUnits,
    CancelRequested,
    Failed,
    FalError,
    InProgress,
    RequestRef,
    Succeeded,
    Unknown,
    alias_ref,
)
from app.ids import new_id, show
from app.jobs.rooms import Rooms
from app.ledger.audit import audit
from app.loop import Loop
from app.settings import Settings
from tests.gateway import Gateway, Person
from tests.jobs.fal_list import ScriptedList

TEXT = "fal-ai/kling-video/v2.1/master/text-to-video"
VIDEO: dict[str, object] = {"video": {"url": "https://fal.media/files/boat.mp4"}}
FIVE = BillableUnits("5", Decimal(5))
_numbers = itertools.count(1)
_FURNITURE = """
WITH team AS (INSERT INTO teams (id, name, created_at) VALUES ($1, 'team ' || $5::text, now())),
person AS (INSERT INTO users (id, team_id, name, role, created_at) VALUES ($2, $1, 'user ' || $5, 'member', now())),
key AS (INSERT INTO keys (id, user_id, name, prefix, created_at) VALUES ($3, $2, 'key', $9, now())),
secret AS (INSERT INTO key_secrets (hash, key_id, created_at) VALUES ($4, $3, now()))
INSERT INTO quotas (id, scope, scope_id, metric, "window", maximum, created_at)
SELECT id, 'organization', '', metric, period, 1000, now()
FROM (VALUES ($6::uuid, 'usd', 'day'), ($7, 'in_flight', NULL)) q (id, metric, period) WHERE $8
"""


def accepted(fal_request_id: str | None = None) -> Accepted:
    return Accepted(alias_ref(TEXT, fal_request_id or f"request-{next(_numbers)}"), 0)


def succeeded(billable: BillableUnits | None = FIVE) -> Succeeded:
    return Succeeded(VIDEO, billable)


def failed(code: int, billable: BillableUnits | None = None, *, type_: str = "", **flags: bool) -> Failed:
    error = FalError(code, type_ or None, "Title", "detail", retryable=False, body={})
    return Failed(error, billable, **({"start_deadline": False, "canceled": False} | flags))


START_DEADLINE = failed(504, type_="request_timeout", start_deadline=True)


class ScriptedFal:
    """Answers each call with what was scripted for it next, else with a good day's answer."""

    key_id = "the-key"
    longest_seconds = 60.0

    def __init__(self) -> None:
        self.script: defaultdict[str, deque[Any]] = defaultdict(deque)
        self.calls: list[tuple[str, str]] = []
        self.always: dict[tuple[str, str], Any] = {}
        self.during: dict[str, Callable[[], Awaitable[None]]] = {}
        self.webhook_urls: list[str | None] = []
        self.with_log: list[bool] = []
        self.list = ScriptedList()

    def answer(self, call: str, *answers: Any) -> None:
        self.script[call].extend(answers)

    def count(self, call: str) -> int:
        return sum(name == call for name, _ in self.calls)

    async def submit(
        self, endpoint: str, body: dict[str, Any], *, start_seconds: int, webhook_url: str | None, send_by: float
    ) -> Any:
        del start_seconds, send_by
        self.webhook_urls.append(webhook_url)
        return await self._next("submit", f"{endpoint} {body['prompt']}") or accepted()

    async def status(self, ref: RequestRef, *, with_log: bool = False) -> Any:
        self.with_log.append(with_log)
        return await self._next("status", ref.fal_request_id) or InProgress()

    async def result(self, ref: RequestRef, completed: Any) -> Any:
        del completed
        return await self._next("result", ref.fal_request_id) or succeeded()

    async def cancel(self, ref: RequestRef) -> Any:
        return await self._next("cancel", ref.fal_request_id) or CancelRequested()

    async def aclose(self) -> None:
        """Nothing is open."""

    async def _next(self, call: str, about: str) -> Any:
        self.calls.append((call, about))
        if call in self.during:
            await self.during[call]()
        answer = self.always.get((call, about)) or (self.script[call].popleft() if self.script[call] else None)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    """The gateway's clock, which a test may move on."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def move(self, **by: float) -> None:
        self.ahead += timedelta(**by)


class Hand:
    """The loops' turns, one by one."""

    def __init__(self, gateway: Gateway, fal: ScriptedFal, clock: Clock, person: Person) -> None:
        self.gateway = gateway
        self.fal = fal
        self.clock = clock
        self.person = person
        self.rooms: Rooms = gateway.app.state.rooms

    async def submit(self, prompt: str = "a boat", **fields: Any) -> str:
        answer = await self.gateway.submit(self.person, prompt, **fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def job(self, job_id: str) -> dict[str, Any]:
        return await self.gateway.job(self.person, job_id)

    async def status(self, job_id: str) -> str:
        return str((await self.job(job_id))["status"])

    async def cancel(self, job_id: str) -> int:
        answer = await self.gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=self.person.headers)
        return answer.status_code

    async def resolve(self, job_id: str, **body: Any) -> int:
        headers = {"Authorization": "Bearer admin-key-of-the-tests-0001"}
        answer = await self.gateway.client.post(
            f"/v1/jobs/{job_id}/resolve", json={"note": "looked it up", **body}, headers=headers
        )
        return answer.status_code

    async def forget(self, job_id: str) -> int:
        answer = await self.gateway.client.delete(f"/v1/jobs/{job_id}/payload", headers=self.person.headers)
        return answer.status_code

    async def erase_copies(self) -> None:
        """One turn of whoever has fal erase its copies, to its end."""
        await self.rooms.fal_copies._turn(2)
        await rest(self.rooms.fal_copies.loop)

    async def row(self, job_id: str) -> dict[str, Any]:
        return (await self.sql("SELECT * FROM jobs WHERE id = $1", job_id[4:]))[0]

    async def attempts(self, job_id: str) -> list[dict[str, Any]]:
        return await self.sql("SELECT * FROM attempts WHERE job_id = $1 ORDER BY sent_at", job_id[4:])

    async def entries(self, job_id: str) -> list[tuple[str, str, str | None]]:
        rows = await self.sql("SELECT * FROM entries WHERE job_id = $1 ORDER BY booked_at, id", job_id[4:])
        return [(row["kind"], f"{row['amount_usd']:.2f}", row["mark"]) for row in rows]

    async def sql(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        async with self.gateway.wiring.db.plain() as plain:
            return [dict(row) for row in await plain.fetch(statement, *arguments)]

    async def send(self) -> None:
        """One turn of the dispatcher, with all that is queued due, to its end."""
        await self.begin_sending()
        await rest(self.rooms.dispatcher.loop)

    async def begin_sending(self) -> None:
        await self.sql("UPDATE jobs SET next_check_at = least(next_check_at, now()) WHERE status = 'queued'")
        await self.sql("UPDATE upstream SET probe_after = least(probe_after, now())")
        self.rooms.dispatcher._ramp.width = 64
        await self.rooms.dispatcher._turn(64)

    async def check(self) -> None:
        """One turn of the tracker, with all that is followed due, to its end."""
        await self.begin_checking()
        await rest(self.rooms.tracker.loop)

    async def begin_checking(self) -> None:
        await self.sql(
            "UPDATE jobs SET next_check_at = now()"
            " WHERE next_check_at IS NOT NULL AND status NOT IN ('queued', 'submitting')"
        )
        await self.rooms.tracker._turn(100)

    async def lose_leases(self) -> None:
        """The dispatchers of all that is being sent are thought to be dead."""
        await self.sql("UPDATE jobs SET next_check_at = now() WHERE status = 'submitting'")
        self.rooms.tracker._leases_looked_at = 0.0
        await self.rooms.tracker._turn(100)
        await rest(self.rooms.tracker.loop)

    async def lose(self, prompt: str = "a boat", **fields: Any) -> str:
        """A job whose submit's answer was lost."""
        job_id = await self.submit(prompt, **fields)
        self.fal.answer("submit", Unknown("ReadTimeout", None))
        await self.send()
        assert await self.status(job_id) == "unconfirmed"
        return job_id

    async def look(self) -> None:
        """fal's request list is asked about every lost job, to the end of it."""
        await self.sql("UPDATE jobs SET next_check_at = NULL WHERE status = 'unconfirmed' AND fal_request_id IS NULL")
        await self.rooms.lost._turn(4)
        await rest(self.rooms.lost.loop)

    async def age(self, job_id: str, **by: float) -> None:
        """Let the job's POST have been so much longer ago, with all that has been learnt of it since."""
        await self.sql(
            "UPDATE attempts SET sent_at = sent_at - $2::interval, sent_from = sent_from - $2::interval,"
            " absent_at = absent_at - $2::interval WHERE job_id = $1",
            job_id[4:],
            timedelta(**by),
        )

    async def name(self, fal_request_id: str, job_id: str, **more: Any) -> None:
        """fal's request list names a request that is the job's, by its time and input."""
        row, attempts = await self.row(job_id), await self.attempts(job_id)
        more = {"endpoint": row["endpoint"], "sent_at": attempts[-1]["sent_at"], "given": row["input"]} | more
        given = json.loads(more["given"]) if isinstance(more["given"], str) else more["given"]
        self.fal.list.name(fal_request_id, **(more | {"given": given}))

    async def follow_strays(self) -> None:
        await self.sql("UPDATE attempts SET stray_check_at = now() WHERE stray_check_at IS NOT NULL")
        await self.rooms.strays._turn(10)
        await rest(self.rooms.strays.loop)

    async def at_fal(self, status: str = "submitted", prompt: str = "a boat") -> str:
        """A job that fal has, in this status."""
        job_id = await self.submit(prompt)
        await self.send()
        if status == "running":
            await self.check()
        if status == "unconfirmed":
            await self.sql("UPDATE jobs SET status = 'unconfirmed' WHERE id = $1", job_id[4:])
        assert await self.status(job_id) == status
        return job_id

    async def assert_books_agree(self) -> None:
        assert await audit(self.gateway.wiring.db, zone=self.gateway.wiring.settings.zone) == []


async def until(condition: Callable[[], bool], *, seconds: float = 5) -> None:
    """Wait for something that happens beside the test."""
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


async def rest(loop: Loop) -> None:
    """Until all work that the loop has started is done."""
    while loop._working:
        await asyncio.wait(set(loop._working))


async def _furnish(gateway: Gateway, *, with_quotas: bool) -> Person:
    """Somebody with a key, and room to spend: in one statement, as many tests begin with it."""
    now = datetime.now(UTC)
    team, user, key, *quotas = (new_id(now) for _ in range(5))
    secret = new_secret()
    async with gateway.wiring.db.plain() as plain:
        number, prefix = str(gateway._made), shown_prefix(secret)
        await plain.execute(_FURNITURE, team, user, key, hash_of(secret), number, *quotas, with_quotas, prefix)
    return Person(show("user", user), show("team", team), show("key", key), secret)


@asynccontextmanager
async def by_hand(settings: Settings, *, shared: bool = False) -> AsyncIterator[Hand]:
    """A gateway that neither sends nor tracks but when a test says so; the ledger agrees with itself afterwards."""
    fal, clock = ScriptedFal(), Clock()

    with (
        patch.object(wiring, "Queue", lambda **_: fal),
        patch.object(wiring, "Platform", lambda **_: fal.list),
    ):
        app = main.create_app(settings, clock=clock, work=False)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
        async with app.router.lifespan_context(app), client:
            gateway = Gateway(app, "http://gateway", client)
            gateway._made = next(_numbers) * 10 if shared else 2  # names of teams are unique
            hand = Hand(gateway, fal, clock, await _furnish(gateway, with_quotas=not shared))
            yield hand
            await hand.assert_books_agree()
