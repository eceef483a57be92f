"""One transaction's worth of submits: quoted, guarded and inserted, each alone, in arrival order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic_core import to_json

from app.accounts.last_used import LastUsed
from app.db import Plain
from app.ids import new_id
from app.jobs.reads.wire import JOB_JSON
from app.jobs.submits.quotes import Quoted, Replayed, find_callers, quote, read_prices
from app.jobs.submits.request import Submission
from app.ledger.holds import Guard, lock_applying, sql_place_holds
from app.ledger.quotas import Applied, applying_to
from app.ledger.settles import Held
from app.problems import Problem

_REMEMBER: Final = """
INSERT INTO idempotency_keys (user_id, key, fingerprint, job_id)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::uuid[]) AS k (user_id, key, fingerprint, job_id)
ORDER BY user_id, key
ON CONFLICT DO NOTHING RETURNING key
"""
_INSERT: Final = f"""
WITH made AS (
INSERT INTO jobs (id, status, model, endpoint, input, tags, end_user, seconds, quoted_usd, held_usd, price_id,
                       quota_usage_ids, user_id, team_id, key_id, webhook_url, webhook_shape, start_by,
                       next_check_at, created_at, queued_at)
SELECT id, 'queued', model, endpoint, input::json, tags::jsonb, end_user, seconds, usd, usd, price_id,
       usage_ids::uuid[], user_id, team_id, key_id, webhook_url, webhook_shape,
       $17::timestamptz + make_interval(secs => start_seconds), now(), $17, $17
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::numeric[], $8::numeric[],
            $9::uuid[], $10::text[], $11::uuid[], $12::uuid[], $13::uuid[], $14::text[],
            $15::text[], $16::float8[])
    AS n (id, model, endpoint, input, tags, end_user, seconds, usd, price_id, usage_ids, user_id, team_id, key_id,
          webhook_url, webhook_shape, start_seconds)
RETURNING *
), {sql_place_holds("made", first=18)}
SELECT j.id, {JOB_JSON} AS body FROM made j
"""  # noqa: S608
_PAYLOADS: Final = """
INSERT INTO payloads (job_id, input) SELECT job_id, input::json
FROM unnest($1::uuid[], $2::text[]) AS p (job_id, input)
"""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job, made just now: its id and the Job as JSON text."""

    job_id: UUID
    body: str


SubmitOutcome = Accepted | Replayed


class WindowsMissing(Exception):  # noqa: N818  a signal to whoever opened the transaction
    """These windows have no row yet; make them in a transaction of their own and start again."""

    def __init__(self, missing: Sequence[Applied]) -> None:
        super().__init__()
        self.missing = missing


class RepeatsAtOnce(Exception):  # noqa: N818  a signal to whoever opened the transaction
    """Another transaction remembered one of our idempotency keys first."""


class Acceptance:
    """One transaction's worth of submissions, each guarded alone, in arrival order."""

    def __init__(self, batch: Sequence[Submission], *, now: datetime, zone: ZoneInfo) -> None:
        self.batch = batch
        self.now = now
        self.outcomes: list[SubmitOutcome | Exception | None] = [None] * len(batch)
        self.made: dict[UUID, int] = {}
        self.repeats: list[int] = []
        self.refused: list[tuple[UUID, UUID, Problem]] = []
        self._zone = zone

    async def run(self, plain: Plain, last_used: LastUsed) -> None:
        """Decide on every member and write what was decided, under the quotas' lock, shared.

        `outcomes`, `made` and `refused` (the team, the user and why, of a known caller) hold once it is committed.

        Raises WindowsMissing or RepeatsAtOnce: roll back, and start again with a new one.
        """
        quoted = self._quote(await find_callers(plain, self.batch, now=self.now), last_used)
        if not quoted:
            return
        holders = {one.holder for one in quoted.values()}
        found, guard = await lock_applying(plain, holders, now=self.now, zone=self._zone)
        applied = {index: applying_to(one.holder, found) for index, one in quoted.items()}
        missing = [quota for quotas in applied.values() for quota in quotas if quota.usage_id is None]
        if missing:
            raise WindowsMissing(missing)
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
                if isinstance(outcome, Problem) and row["key_id"] is not None:
                    self.refused.append((row["team_id"], row["user_id"], outcome))
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
                self.refused.append((one.holder.team_id, one.holder.user_id, problem))
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
                raise RepeatsAtOnce
        rows = await plain.fetch(_INSERT, *_columns(held), self.now, *guard.raised())
        bodies = {row["id"]: row["body"] for row in rows}
        payloads = [(hold.job_id, one.submission.payload) for _, one, hold in held if one.submission.payload]
        if payloads:
            await plain.execute(_PAYLOADS, [job_id for job_id, _ in payloads], [text for _, text in payloads])
        for index, _, hold in held:
            self.outcomes[index] = Accepted(hold.job_id, bodies[hold.job_id])
            self.made[hold.job_id] = index


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
        [one.submission.webhook_url for _, one, _ in held],
        [one.submission.webhook_shape for _, one, _ in held],
        [one.submission.start_seconds for _, one, _ in held],
    ]
