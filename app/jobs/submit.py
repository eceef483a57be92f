"""Accepting jobs: key, price, quotas, hold and insert in one transaction, shared by those that arrive together."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, cast
from uuid import UUID

import asyncpg
from pydantic_core import to_json

from app.accounts.callers import CALLER_FROM, KeyUnknown, sql_caller, sql_live
from app.accounts.last_used import LastUsed
from app.catalogue.prices import Price, price_of
from app.db import CommitUnknown, Plain, is_database_away
from app.ids import new_id
from app.jobs.group import Group
from app.jobs.request import Submission
from app.jobs.wire import JOB_JSON
from app.ledger.holds import EXCLUSIVE_LOCK, SHARED_LOCK, Amounts, Guard, sql_place_holds
from app.ledger.quotas import Applied, Holder, applying_to, find_applying
from app.ledger.settles import Held
from app.ledger.usage import create_windows
from app.problems import Problem, Unavailable
from app.wiring import Wiring

log = logging.getLogger("falgate.submit")

_TRIES: Final = 5
_LOOK_UP_SECONDS: Final = 30.0
_LOOK_AGAIN_SECONDS: Final = 0.3
_UNKNOWN: Final = (
    "The database went away while this was being stored, so it may have been accepted: look at GET /v1/jobs before "
    "you send it again, or repeat it with the same Idempotency-Key."
)

_CALLERS: Final = f"""
SELECT l.locked, c.*, i.job_id, i.fingerprint,
       CASE WHEN r.n = 1 THEN (
           SELECT json_agg(json_build_array(p.id, p.endpoint, p."when", p.base_seconds::text, p.base_usd::text,
                                            p.usd_per_second::text, p.starts_at))::text
           FROM prices p WHERE p.endpoint = ANY($4) AND p.starts_at <= $3) END AS prices
FROM (SELECT {{lock}} IS NULL AS locked) l
CROSS JOIN unnest($1::bytea[], $2::text[]) WITH ORDINALITY AS r (hash, key, n)
LEFT JOIN LATERAL (
    SELECT {sql_caller("$3")} FROM {CALLER_FROM} WHERE s.hash = r.hash AND {sql_live("$3")}
) c ON true
LEFT JOIN idempotency_keys i ON i.user_id = c.user_id AND i.key = r.key
ORDER BY r.n
"""  # noqa: S608  every part is ours
_CALLERS_LOCKED: Final = _CALLERS.format(lock=SHARED_LOCK)
_CALLERS_ONLY: Final = _CALLERS.format(lock="1")

_REMEMBER: Final = """
INSERT INTO idempotency_keys (user_id, key, fingerprint, job_id)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::uuid[]) AS k (user_id, key, fingerprint, job_id)
ORDER BY user_id, key
ON CONFLICT DO NOTHING RETURNING key
"""
_INSERT: Final = f"""
WITH made AS (
INSERT INTO jobs (id, status, model, endpoint, input, tags, end_user, seconds, quoted_usd, held_usd, price_id,
                       quota_usage_ids, user_id, team_id, key_id, next_check_at, created_at)
SELECT id, 'queued', model, endpoint, input::json, tags::jsonb, end_user, seconds, usd, usd, price_id,
       usage_ids::uuid[], user_id, team_id, key_id, now(), $14
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::numeric[], $8::numeric[],
            $9::uuid[], $10::text[], $11::uuid[], $12::uuid[], $13::uuid[])
    AS n (id, model, endpoint, input, tags, end_user, seconds, usd, price_id, usage_ids, user_id, team_id, key_id)
RETURNING *
), {sql_place_holds("made", first=15)}
SELECT j.id, {JOB_JSON} AS body FROM made j
"""  # noqa: S608
_PAYLOADS: Final = """
INSERT INTO payloads (job_id, input) SELECT job_id, input::json
FROM unnest($1::uuid[], $2::text[]) AS p (job_id, input)
"""
_LOOK_UP: Final = f"SELECT j.id, {JOB_JSON} AS body FROM jobs j WHERE j.id = ANY($1)"  # noqa: S608


class IdempotencyKeyReused(Problem):
    """This `Idempotency-Key` was used before, for a request that asked for something else.

    Use a new key for a new job; repeat the same key only with the same route and body. `job_id` names the job that
    the key belongs to.
    """

    status = 422


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job, made just now: its id and the Job as JSON text."""

    job_id: UUID
    body: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """The job that this Idempotency-Key made before."""

    job_id: UUID


SubmitOutcome = Accepted | Replayed


class _WindowsMissing(Exception):  # noqa: N818  a signal, caught below
    def __init__(self, missing: Sequence[Applied]) -> None:
        super().__init__()
        self.missing = missing


class _RepeatsAtOnce(Exception):  # noqa: N818  a signal, caught below
    """Another transaction remembered one of our idempotency keys first."""


@dataclass(frozen=True, slots=True)
class Quoted:
    """A submission of a known caller, with its price."""

    submission: Submission
    holder: Holder
    price: Price

    @property
    def amounts(self) -> Amounts:
        """What it asks of every metric."""
        return Amounts(usd=self.price.usd(self.submission.seconds), seconds=self.submission.seconds)


class Submits:
    """The one door through which jobs come in."""

    def __init__(
        self,
        wiring: Wiring,
        last_used: LastUsed,
        *,
        wake: Callable[[], None],
    ) -> None:
        self._wake = wake
        self._wiring = wiring
        self._last_used = last_used
        self._group = Group[Submission, SubmitOutcome](self._run, sizes=wiring.metrics.group_size.labels("submit"))

    async def submit(self, submission: Submission) -> SubmitOutcome:
        """Accept it, once committed, or raise what refuses it: KeyUnknown, ModelUnpriced, QuotaExceeded and so on.

        Raises Unavailable when the database is away: nothing was stored.
        """
        try:
            return await self._group(submission)
        except Problem as problem:
            self._wiring.metrics.refusals.labels(problem.code).inc()
            raise

    async def _run(self, batch: Sequence[Submission]) -> Sequence[SubmitOutcome | Exception]:
        for _ in range(_TRIES):
            transaction = _Transaction(batch, self._wiring, self._wiring.clock())
            try:
                async with self._wiring.db.begin_plain() as plain:
                    await transaction.run(plain, self._last_used)
            except _WindowsMissing as signal:
                await create_windows(self._wiring.db, signal.missing, now=transaction.now)
                continue
            except (_RepeatsAtOnce, asyncpg.DeadlockDetectedError):
                continue
            except CommitUnknown:
                await self._look_up(transaction)
            if transaction.made:
                self._wake()
            await self._run_repeats(transaction)
            return cast("Sequence[SubmitOutcome | Exception]", transaction.outcomes)
        raise Unavailable("The gateway is too busy to decide this just now. Send the same request again in a moment.")

    async def _run_repeats(self, transaction: "_Transaction") -> None:
        """Members whose idempotency key another member of the same transaction had: each alone, after it.

        Whatever becomes of them, what has been committed stays answered: raising here would run all of it again.
        """
        for index in transaction.repeats:
            try:
                (transaction.outcomes[index],) = await self._run([transaction.batch[index]])
            except Exception as error:  # noqa: BLE001  it is this member's own
                transaction.outcomes[index] = error

    async def _look_up(self, transaction: "_Transaction") -> None:
        """The answer to COMMIT was lost: say what happened, once nothing is on its way any more.

        The database may be away for a while. Raises nothing: what may have been committed must not be run again.
        """
        log.warning("the answer to a COMMIT of %d jobs was lost; looking them up", len(transaction.made))
        found = await self._find_made(list(transaction.made))
        for job_id, index in transaction.made.items():
            if found is None:
                transaction.outcomes[index] = Unavailable(_UNKNOWN)
            else:
                transaction.outcomes[index] = Accepted(job_id, found[job_id]) if job_id in found else Unavailable()
        transaction.made = {job_id: index for job_id, index in transaction.made.items() if job_id in (found or ())}

    async def _find_made(self, job_ids: Sequence[UUID]) -> dict[UUID, str] | None:
        """Those of the jobs that are there, as JSON text; None when the database did not come back in time.

        The lost transaction holds the quotas' lock shared until it is decided, so whoever gets it exclusively may
        believe what it sees.
        """
        give_up_at = time.monotonic() + _LOOK_UP_SECONDS
        while True:
            try:
                async with self._wiring.db.begin_plain() as plain:
                    await plain.execute(f"SELECT {EXCLUSIVE_LOCK}")
                    return {row["id"]: row["body"] for row in await plain.fetch(_LOOK_UP, job_ids)}
            except Exception as error:
                if not is_database_away(error) or time.monotonic() > give_up_at:
                    log.exception("%d jobs could not be looked up: nobody knows whether they are there", len(job_ids))
                    return None
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


class _Transaction:
    """One transaction's worth of submissions, each guarded alone, in arrival order."""

    def __init__(self, batch: Sequence[Submission], wiring: Wiring, now: datetime) -> None:
        self.batch = batch
        self.now = now
        self.outcomes: list[SubmitOutcome | Exception | None] = [None] * len(batch)
        self.made: dict[UUID, int] = {}
        self.repeats: list[int] = []
        self._zone = wiring.settings.zone

    async def run(self, plain: Plain, last_used: LastUsed) -> None:
        quoted = self._quote(await find_callers(plain, self.batch, now=self.now, lock=True), last_used)
        if not quoted:
            return
        by_subject = await find_applying(plain, {one.holder for one in quoted.values()}, now=self.now, zone=self._zone)
        applied = {index: applying_to(one.holder, by_subject) for index, one in quoted.items()}
        missing = [quota for quotas in applied.values() for quota in quotas if quota.usage_id is None]
        if missing:
            raise _WindowsMissing(missing)
        guard = await Guard.lock(
            plain, (quota.usage_id for quotas in applied.values() for quota in quotas if quota.usage_id)
        )
        held = self._decide(quoted, applied, guard)
        await self._insert(plain, held, guard)

    def _quote(self, callers: Sequence[Any], last_used: LastUsed) -> dict[int, Quoted]:
        prices = read_prices(callers[0]["prices"])
        quoted: dict[int, Quoted] = {}
        claimed: set[tuple[UUID, str]] = set()
        for index, (submission, row) in enumerate(zip(self.batch, callers, strict=True)):
            if row["key_id"] is not None and row["is_stale"]:
                last_used.saw(row["key_id"])
            claim = (row["user_id"], submission.idempotency_key)
            if submission.idempotency_key is not None and claim in claimed:
                self.repeats.append(index)
                continue
            outcome = quote(submission, row, prices, now=self.now)
            if isinstance(outcome, Quoted):
                quoted[index] = outcome
                if submission.idempotency_key is not None:
                    claimed.add(cast("tuple[UUID, str]", claim))
            else:
                self.outcomes[index] = outcome
        return quoted

    def _decide(
        self, quoted: dict[int, Quoted], applied: dict[int, list[Applied]], guard: Guard
    ) -> list[tuple[int, Quoted, Held]]:
        held: list[tuple[int, Quoted, Held]] = []
        for index, one in quoted.items():
            try:
                usage_ids = guard.take(applied[index], one.amounts, now=self.now)
            except Problem as problem:
                self.outcomes[index] = problem
                continue
            held.append((index, one, _held(one, usage_ids, now=self.now)))
        return held

    async def _insert(self, plain: Plain, held: Sequence[tuple[int, Quoted, Held]], guard: Guard) -> None:
        if not held:
            return
        keyed = [(one.submission, hold) for _, one, hold in held if one.submission.idempotency_key is not None]
        if keyed:
            remembered = await plain.fetch(
                _REMEMBER,
                [hold.user_id for _, hold in keyed],
                [submission.idempotency_key for submission, _ in keyed],
                [submission.fingerprint for submission, _ in keyed],
                [hold.job_id for _, hold in keyed],
            )
            if len(remembered) < len(keyed):
                raise _RepeatsAtOnce
        rows = await plain.fetch(_INSERT, *_columns(held), self.now, *guard.raised())
        bodies = {row["id"]: row["body"] for row in rows}
        payloads = [(hold.job_id, one.submission.payload) for _, one, hold in held if one.submission.payload]
        if payloads:
            await plain.execute(_PAYLOADS, [job_id for job_id, _ in payloads], [text for _, text in payloads])
        for index, _, hold in held:
            self.outcomes[index] = Accepted(hold.job_id, bodies[hold.job_id])
            self.made[hold.job_id] = index


async def find_callers(plain: Plain, batch: Sequence[Submission], *, now: datetime, lock: bool) -> Sequence[Any]:
    """Who submits, what their idempotency keys mean, and the prices of what they ask for: one row a member.

    `lock` takes the quotas' lock, shared: from then on no quota changes until the transaction ends.
    """
    return await plain.fetch(
        _CALLERS_LOCKED if lock else _CALLERS_ONLY,
        [submission.secret_hash for submission in batch],
        [submission.idempotency_key for submission in batch],
        now,
        list({submission.endpoint.id for submission in batch}),
    )


def read_prices(text: str | None) -> list[Price]:
    """The price rows that `find_callers` brings with its first row."""
    return [
        Price(
            id=UUID(row[0]),
            endpoint=row[1],
            when=row[2],
            base_seconds=Decimal(row[3]),
            base_usd=Decimal(row[4]),
            usd_per_second=Decimal(row[5]),
            starts_at=datetime.fromisoformat(row[6]),
        )
        for row in json.loads(text or "[]")
    ]


def quote(submission: Submission, row: Any, prices: Sequence[Price], *, now: datetime) -> Quoted | Replayed | Problem:
    """The price of a submission, or why it has none: an unknown key, a repeated one, no price row."""
    if row["key_id"] is None:
        return KeyUnknown()
    if row["job_id"] is not None:
        if row["fingerprint"] == submission.fingerprint:
            return Replayed(row["job_id"])
        return IdempotencyKeyReused(
            "Use another Idempotency-Key: this one belongs to a request that asked for something else.",
            job_id=f"job_{row['job_id'].hex}",
        )
    try:
        price = price_of(prices, endpoint=submission.endpoint.id, given=submission.given, now=now)
    except Problem as problem:
        return problem
    return Quoted(submission, Holder(row["team_id"], row["user_id"], row["key_id"], submission.end_user), price)


def _held(one: Quoted, usage_ids: Sequence[UUID], *, now: datetime) -> Held:
    return Held(
        job_id=new_id(now),
        quota_usage_ids=usage_ids,
        usd=one.amounts.usd,
        seconds=one.amounts.seconds,
        price_id=one.price.id,
        user_id=one.holder.user_id,
        team_id=one.holder.team_id,
        key_id=one.holder.key_id,
        model=one.submission.endpoint.model,
        end_user=one.holder.end_user,
        tags=to_json(one.submission.tags).decode(),
    )


def _columns(held: Sequence[tuple[int, Quoted, Held]]) -> list[list[Any]]:
    """The arrays of `_INSERT`, in its order."""
    return [
        [hold.job_id for _, _, hold in held],
        [hold.model for _, _, hold in held],
        [one.submission.endpoint.id for _, one, _ in held],
        [to_json(one.submission.given).decode() for _, one, _ in held],
        [hold.tags for _, _, hold in held],
        [hold.end_user for _, _, hold in held],
        [hold.seconds for _, _, hold in held],
        [hold.usd for _, _, hold in held],
        [hold.price_id for _, _, hold in held],
        ["{" + ",".join(str(usage_id) for usage_id in hold.quota_usage_ids) + "}" for _, _, hold in held],
        [hold.user_id for _, _, hold in held],
        [hold.team_id for _, _, hold in held],
        [hold.key_id for _, _, hold in held],
    ]
