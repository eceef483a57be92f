"""The rooms of a gateway without HTTP, network or loops: a real database, a clock and a fal that tests move."""

import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

from app.accounts import keys, teams, users
from app.accounts.callers import COMMAND_LINE
from app.accounts.key_secrets import hash_of
from app.accounts.last_used import LastUsed
from app.accounts.shapes import KeyBody, TeamBody, UserBody
from app.db import Database, Plain
from app.fal import (
    Accepted,
    AlreadyCompleted,
    BillableUnits,
    CancelOutcome,
    Completed,
    Failed,
    FalError,
    InProgress,
    Queue,
    RequestRef,
    ResultOutcome,
    StatusOutcome,
    SubmitOutcome,
    Succeeded,
)
from app.ids import show
from app.jobs.at_fal.breaker import Limits
from app.jobs.at_fal.claims import ToSend, claim_queued
from app.jobs.at_fal.moves import Moves
from app.jobs.ends.causes import error_json
from app.jobs.ends.charges import void
from app.jobs.ends.ending import Ending
from app.jobs.rooms import Rooms
from app.jobs.submits.accept import Accepted as Made
from app.jobs.submits.accept import SubmitOutcome as Submitted
from app.jobs.submits.request import Submission
from app.ledger import quota_book
from app.ledger.audit import Difference, audit
from app.ledger.settles import Charge, Held
from app.ledger.shapes import QuotaBody, QuotaPatch
from app.settings import Settings
from app.wiring import unwire, wire

START: Final = datetime(2026, 5, 4, 12, tzinfo=UTC)
FIVE: Final = Decimal("1.40")
TEN: Final = Decimal("2.80")


@dataclass
class Clock:
    """Stands still until it is moved."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


class FakeFal:
    """A fal that answers what a test put there; `called` runs before each answer."""

    key_id = "fake-fal-key"
    longest_seconds = 60.0

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.submit_outcome: Callable[[], SubmitOutcome] | None = None
        self.status_outcome: StatusOutcome = InProgress()
        self.result_outcome: ResultOutcome = Succeeded({"video": {"url": "https://v"}}, None)
        self.cancel_outcome: CancelOutcome = AlreadyCompleted()
        self.calls: list[str] = []
        self.called: Callable[[str], Awaitable[None]] | None = None

    def accepts(self) -> Accepted:
        name = f"fal-{next(self.numbers)}"
        return Accepted(RequestRef(name, f"/{name}/status", f"/{name}", f"/{name}/cancel"), 0)

    async def submit(self, _endpoint: str, _body: Mapping[str, object], **_more: object) -> SubmitOutcome:
        await self._call("submit")
        return self.submit_outcome() if self.submit_outcome else self.accepts()

    async def status(self, _ref: RequestRef, **_more: object) -> StatusOutcome:
        await self._call("status")
        return self.status_outcome

    async def result(self, _ref: RequestRef, _completed: Completed) -> ResultOutcome:
        await self._call("result")
        return self.result_outcome

    async def cancel(self, _ref: RequestRef) -> CancelOutcome:
        await self._call("cancel")
        return self.cancel_outcome

    async def aclose(self) -> None:
        """Nothing is open."""

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.called is not None:
            await self.called(name)


@dataclass(frozen=True)
class Someone:
    """A user with a key."""

    team_id: UUID
    user_id: UUID
    key_id: UUID
    secret_hash: bytes
    secret: str = field(repr=False, default="")


def units(text: str) -> BillableUnits:
    return BillableUnits(text, Decimal(text))


def failed(code: int, billable: BillableUnits | None = None, **more: bool) -> Failed:
    error = FalError(code, "content_policy_violation", "No", "No.", retryable=False, body={})
    return Failed(error, billable, more.get("start_deadline", False), more.get("canceled", False))


class House:
    """One replica. Another on the same database shares nothing with it but that."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None, fal: FakeFal | None = None) -> None:
        self.clock = clock or Clock()
        self.fal = fal or FakeFal()
        self._unwired = wire(settings, clock=self.clock)
        self.wiring = replace(self._unwired, fal=cast("Queue", self.fal))
        self.db: Database = self.wiring.db
        self.rooms = Rooms(self.wiring, LastUsed())
        self.moves = Moves(self.wiring)
        self._names = itertools.count(1)

    async def close(self) -> None:
        await unwire(self._unwired)

    async def team(self) -> UUID:
        async with self.db.begin() as tx:
            body = TeamBody(name=f"team {next(self._names)}")
            return (await teams.create_team(tx, body, actor=COMMAND_LINE, now=self.clock())).id

    async def someone(self, team_id: UUID | None = None) -> Someone:
        team_id = team_id or await self.team()
        async with self.db.begin() as tx:
            body = UserBody(name=f"user {next(self._names)}", team_id=team_id, role="member")
            user = await users.create_user(tx, body, actor=COMMAND_LINE, now=self.clock())
        return await self.key_of(user.id, team_id)

    async def key_of(self, user_id: UUID, team_id: UUID) -> Someone:
        """Another key of this user."""
        async with self.db.begin() as tx:
            body = KeyBody(user_id=user_id, name="key")
            key = await keys.create_key(tx, body, actor=COMMAND_LINE, now=self.clock())
        secret_hash = hash_of(key.secret)
        assert secret_hash is not None
        return Someone(team_id, user_id, key.id, secret_hash, key.secret)

    async def quota(
        self, maximum: str | int, metric: str = "usd", window: str | None = "day", **scope: str | None
    ) -> UUID:
        """Make one; of the organization unless `scope` and `scope_id` say otherwise."""
        given = {"scope": "organization", "metric": metric, "window": window, "maximum": maximum} | scope
        body = QuotaBody.model_validate(given)
        async with self.db.begin() as tx:
            return (await quota_book.create_quota(tx, body, actor=COMMAND_LINE, now=self.clock())).id

    async def change_quota(self, quota_id: UUID, maximum: str | int) -> None:
        async with self.db.begin() as tx:
            patch = QuotaPatch.model_validate({"maximum": maximum})
            await quota_book.change_quota(tx, quota_id, patch, actor=COMMAND_LINE, now=self.clock())

    async def delete_quota(self, quota_id: UUID) -> None:
        async with self.db.begin() as tx:
            await quota_book.delete_quota(tx, quota_id, actor=COMMAND_LINE, now=self.clock())

    def submission(
        self,
        who: Someone,
        *,
        seconds: int = 5,
        end_user: str | None = None,
        key: str | None = None,
        tags: Mapping[str, str] | None = None,
        **given: Any,
    ) -> Submission:
        endpoint = self.wiring.catalogue.find("text-to-video", "kling-2.1-master")
        assert endpoint is not None
        return Submission(
            secret_hash=who.secret_hash,
            endpoint=endpoint,
            given={"prompt": "a boat", "duration": str(seconds)} | given,
            payload=None,
            tags=tags or {},
            end_user=end_user,
            seconds=Decimal(seconds),
            idempotency_key=key,
            fingerprint=b"same",
            wait_seconds=None,
        )

    async def submit(self, who: Someone, **what: Any) -> UUID:
        """Accepted, or its exception; the job's id."""
        outcome: Submitted = await self.rooms.submits.submit(self.submission(who, **what))
        assert isinstance(outcome, Made)
        return outcome.job_id

    async def end(
        self,
        job_id: UUID,
        *,
        usd: str | Decimal | None = None,
        was: tuple[str, ...] = ("queued",),
        attempt_id: UUID | None = None,
    ) -> bool:
        """End it as `succeeded` at `usd`, or at its quote; "0" voids."""

        def charge(held: Held) -> Charge:
            return Charge(usd=held.usd if usd is None else Decimal(usd))

        return await self.rooms.endings.end(
            Ending(
                job_id=job_id,
                was=frozenset(was),
                attempt_id=attempt_id,
                status="succeeded",
                charge=charge,
                output="{}",
            )
        )

    async def void(self, job_id: UUID) -> bool:
        return await self.rooms.endings.end(
            Ending(
                job_id=job_id,
                was=frozenset({"queued"}),
                attempt_id=None,
                status="canceled",
                charge=void("test"),
                error=error_json(code="canceled", title="C", detail="d", retryable=False),
            )
        )

    async def make_due(self) -> None:
        """Every check and every stray is due now."""
        await self.execute("UPDATE jobs SET next_check_at = now() WHERE next_check_at IS NOT NULL")
        await self.execute("UPDATE attempts SET stray_check_at = now() WHERE stray_check_at IS NOT NULL")

    async def claim(self, most: int = 100, *, limits: Limits | None = None) -> list[ToSend]:
        """Take what is queued, as the dispatcher does."""
        claimed, _ = await claim_queued(
            self.wiring.db,
            most,
            lease_seconds=90,
            fal_key_id=self.fal.key_id,
            most_bytes=10**9,
            start_seconds=3600,
            now=self.wiring.clock(),
            limits=limits,
        )
        return claimed

    async def follow_strays(self) -> int:
        """One turn of those who follow strays, to its end."""
        return await self._turn(self.rooms.strays)

    async def send(self) -> int:
        """One turn of the dispatcher, to its end."""
        return await self._turn(self.rooms.dispatcher)

    async def track(self) -> int:
        """One turn of the tracker, to its end."""
        return await self._turn(self.rooms.tracker)

    async def _turn(self, room: Any) -> int:
        begun: list[Any] = []
        room.loop.start = begun.append
        if room is self.rooms.dispatcher:
            room._ramp.width = 100
            await self.execute("UPDATE upstream SET probe_after = now() WHERE degraded_since IS NOT NULL")
        room._leases_looked_at = -1e9
        found = int(await room._turn(100))
        for work in begun:
            await work
        return found

    async def audit(self) -> list[Difference]:
        return await audit(self.db, zone=self.wiring.settings.zone)

    async def execute(self, sql: str, *values: Any) -> None:
        async with self.db.plain() as plain:
            await plain.execute(sql, *values)

    async def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        async with self.db.plain() as plain:
            return [dict(row) for row in await plain.fetch(sql, *values)]

    async def value(self, sql: str, *values: Any) -> Any:
        async with self.db.plain() as plain:
            return await plain.fetchval(sql, *values)

    async def usage(self, quota_id: UUID) -> list[tuple[Any, Any]]:
        """`(used, held)` of each window of a quota that has a row, oldest first."""
        rows = await self.rows(
            "SELECT used, held FROM quota_usage WHERE quota_id = $1 ORDER BY starts_at, subject", quota_id
        )
        return [(row["used"], row["held"]) for row in rows]

    async def kinds(self, job_id: UUID) -> list[str]:
        """The kinds of a job's entries, in order."""
        rows = await self.rows("SELECT kind FROM entries WHERE job_id = $1 ORDER BY booked_at, id", job_id)
        return sorted(row["kind"] for row in rows)

    async def job(self, job_id: UUID) -> dict[str, Any]:
        return (await self.rows("SELECT * FROM jobs WHERE id = $1", job_id))[0]


def id_of(kind: str, made: UUID) -> str:
    return show(kind, made)


async def in_transaction(db: Database, act: Callable[[Plain], Awaitable[Any]]) -> Any:
    """Do it, and commit."""
    async with db.begin_plain() as plain:
        return await act(plain)
