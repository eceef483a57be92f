"""A state machine over everything that moves jobs and money, against a model that only remembers what was done."""

import asyncio
from collections.abc import Coroutine
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.accounts.callers import COMMAND_LINE
from app.fal import Completed, InProgress, NotSent, Queued, Refused, RefusedUs, Succeeded, Trouble, Unknown
from app.jobs.ends.cancel import JobEnded, cancel_job
from app.jobs.ends.overdue import end_overdue
from app.jobs.ends.resolve import JobNotUnconfirmed, Resolution, resolve_job
from app.ledger.holds import QuotaExceeded, TooManyInFlight, TooManyJobs
from app.ledger.months.closing import LaterMonthClosed, MonthClosed, MonthEmpty, MonthNotOver
from app.ledger.quotas import Holder, applying_to, find_applying
from app.ledger.settles import Extra
from app.ledger.usage import read_usage
from app.ledger.windows import Kind, local_date, window_at
from app.problems import InvalidInput
from tests.conftest import settings_for

from .closing import adjust, close, reopen, sums, totals
from .house import START, Clock, House, Someone, failed, id_of, units
from .model import ENDED, Job, Model, Quota
from .test_exactly_once import book, calling

MAXIMA = {
    "usd": ["0", "2.79", "4.20", "14.00", "30.00"],
    "seconds": ["14", "40", "90"],
    "jobs": ["2", "6", "20"],
    "in_flight": ["2", "4", "9"],
}
WINDOWS = ["minute", "hour", "day", "day", "week", "month", "lifetime"]
QUEUE_SECONDS = 20 * 86_400
BILLS = ["5", "0", "7", None]


class Machine(RuleBasedStateMachine):
    """Two replicas, the second two seconds late; three users in two teams."""

    url: ClassVar[str]
    steps: ClassVar[int] = 0
    accepted: ClassVar[int] = 0
    refused: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.run(self.open())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def open(self) -> None:
        given = settings_for(
            self.url, START_SECONDS="3600", JOB_DEADLINE_SECONDS="86400", QUEUE_SECONDS=str(QUEUE_SECONDS)
        )
        self.clock = Clock()
        self.late_clock = Clock(START - timedelta(seconds=2))
        self.house, self.late = House(given, clock=self.clock), House(given, clock=self.late_clock)
        async with self.house.db.begin_plain() as plain:
            await plain.execute("SET LOCAL session_replication_role = replica")
            await plain.execute(
                "TRUNCATE teams, users, audit_log, quotas, quota_usage, jobs, entries, spend_daily, spend_monthly, "
                "idempotency_keys, closed_months CASCADE; UPDATE books SET open_since = '-infinity'"
            )
        ann = await self.house.someone()
        self.people = [ann, await self.house.someone(ann.team_id), await self.house.someone()]
        self.people.append(await self.house.key_of(ann.user_id, ann.team_id))
        self.model = Model(given.zone)
        self.strays: list[UUID] = []
        self.sources = 0
        self.closed: dict[date, dict[str, Any]] = {}

    def teardown(self) -> None:
        async def close() -> None:
            await self.house.close()
            await self.late.close()

        self.run(close())
        self.runner.close()

    def now(self, house: House) -> datetime:
        return house.clock()

    def some(self, number: int, *statuses: str) -> tuple[UUID, Job] | None:
        fitting = [(job_id, job) for job_id, job in self.model.jobs.items() if job.status in statuses]
        return fitting[number % len(fitting)] if fitting else None

    def end(self, job: Job, status: str, usd: Decimal = Decimal(0)) -> None:
        job.status = status
        job.charged_usd += usd
        job.charged_seconds += job.seconds if usd else 0

    def put_back(self, job: Job) -> None:
        job.at_fal = False
        if job.cancel:
            self.end(job, "canceled")
        else:
            job.status = "queued"

    async def only_due(self, job_id: UUID | None) -> None:
        await self.house.execute(
            "UPDATE jobs SET next_check_at = now() + CASE WHEN id = $1 THEN interval '0' ELSE interval '1 hour' END "
            "WHERE next_check_at IS NOT NULL",
            job_id,
        )

    # Quotas and time

    @initialize()
    def first_quotas(self) -> None:
        self.run(self.make_quota("user", "usd", "day", "7.00", None))
        self.run(self.make_quota("organization", "in_flight", None, "8", None))
        for person in range(4):
            self.submit(person=person, end_user="x", seconds=5, is_late=False)

    async def make_quota(
        self, scope: str, metric: str, window: Any, maximum: str, who: tuple[Someone, str] | None
    ) -> None:
        scope_id = None
        if who is not None and scope != "organization":
            subject = self.model.subjects(who[0], who[1])[scope]
            scope_id = who[1] if scope == "end_user" else id_of(scope, subject)
        live = {(quota.scope, quota.scope_id, quota.metric, quota.window) for quota in self.model.quotas.values()}
        if (scope, scope_id, metric, window) in live:
            return
        made = await self.house.quota(maximum, metric, window, scope=scope, scope_id=scope_id)
        self.model.quotas[made] = Quota(made, scope, scope_id, metric, window, Decimal(maximum))

    @rule(
        scope=st.sampled_from(["organization", "team", "user", "key", "end_user"]),
        metric=st.sampled_from(sorted(MAXIMA)),
        window=st.sampled_from(WINDOWS),
        number=st.integers(0, 99),
        person=st.integers(0, 3),
        end_user=st.sampled_from(["x", "y/x"]),
        is_own=st.booleans(),
    )
    def create_quota(
        self, *, scope: str, metric: str, window: str, number: int, person: int, end_user: str, is_own: bool
    ) -> None:
        maximum = MAXIMA[metric][number % len(MAXIMA[metric])]
        who = (self.people[person], end_user) if is_own else None
        self.run(self.make_quota(scope, metric, None if metric == "in_flight" else window, maximum, who))

    @rule(number=st.integers(0, 99), person=st.integers(0, 3), end_user=st.sampled_from(["x", "y/x"]))
    def someone_gets_a_quota_of_their_own_for_a_while(self, number: int, person: int, end_user: str) -> None:
        """Beside a default; it goes again, and the default counts what was held meanwhile."""
        defaults = [q for q in self.model.quotas.values() if q.scope_id is None and q.scope != "organization"]
        if not defaults:
            return
        default, who = defaults[number % len(defaults)], self.people[person]
        before = set(self.model.quotas)
        maximum = MAXIMA[default.metric][-1]
        self.run(self.make_quota(default.scope, default.metric, default.window, maximum, (who, end_user)))
        self.submit(person=person, end_user=end_user, seconds=5, is_late=number % 2 == 0)
        if number % 3 == 0:
            window = default.window if default.window not in {None, "lifetime"} else "day"
            self.a_window_is_about_to_end_or_just_has(window, 1)
        for own in set(self.model.quotas) - before:
            self.run(self.house.delete_quota(own))
            del self.model.quotas[own]
        self.submit(person=person, end_user=end_user, seconds=5, is_late=number % 2 == 0)

    @precondition(lambda self: self.model.quotas)
    @rule(number=st.integers(0, 99), choice=st.integers(0, 99))
    def change_quota(self, number: int, choice: int) -> None:
        quota = list(self.model.quotas.values())[number % len(self.model.quotas)]
        maximum = MAXIMA[quota.metric][choice % len(MAXIMA[quota.metric])]
        self.run(self.house.change_quota(quota.id, maximum))
        quota.maximum = Decimal(maximum)

    @precondition(lambda self: self.model.quotas)
    @rule(number=st.integers(0, 99))
    def delete_quota(self, number: int) -> None:
        quota = list(self.model.quotas.values())[number % len(self.model.quotas)]
        self.run(self.house.delete_quota(quota.id))
        del self.model.quotas[quota.id]

    @rule(seconds=st.sampled_from([1, 1, 30, 60, 3600, 12 * 3600, 86_400, 10 * 86_400]))
    def time_passes(self, seconds: int) -> None:
        self.move_clocks(self.clock.now + timedelta(seconds=seconds))

    @rule(kind=st.sampled_from(["minute", "hour", "day", "week", "month"]), after=st.sampled_from([-1, 0, 1]))
    def a_window_is_about_to_end_or_just_has(self, kind: Kind, after: int) -> None:
        ends_at = window_at(kind, self.clock.now, self.model.zone).ends_at
        assert ends_at is not None
        self.move_clocks(max(self.clock.now, ends_at + timedelta(seconds=after)))

    def move_clocks(self, now: datetime) -> None:
        self.clock.now, self.late_clock.now = now, now - timedelta(seconds=2)

    # Submit, and what fal says to it

    @rule(
        people=st.lists(st.integers(0, 3), min_size=1, max_size=4),
        end_user=st.sampled_from([None, None, "x", "y/x"]),
        seconds=st.sampled_from([5, 5, 10]),
        is_late=st.booleans(),
    )
    def submit_some(self, *, people: list[int], end_user: str | None, seconds: int, is_late: bool) -> None:
        for person in people:
            self.submit(person=person, end_user=end_user, seconds=seconds, is_late=is_late)

    def submit(self, *, person: int, end_user: str | None, seconds: int, is_late: bool) -> None:
        house, who = self.late if is_late else self.house, self.people[person]
        usd, now = Decimal("1.40") + Decimal("0.28") * (seconds - 5), house.clock()
        expected = self.model.blocking(who, end_user, seconds, usd, now)
        if expected:
            with pytest.raises((QuotaExceeded, TooManyInFlight, TooManyJobs)) as refused:
                self.run(house.submit(who, end_user=end_user, seconds=seconds))
            named: Any = refused.value.members["quotas"]
            assert {quota["quota_id"] for quota in named} == expected
            Machine.refused += 1
            return
        job_id = self.run(house.submit(who, end_user=end_user, seconds=seconds))
        Machine.accepted += 1
        self.model.jobs[job_id] = Job(who, end_user, seconds, usd, now)
        for quota in self.model.applying(who, end_user):
            assert sum(self.model.counted(quota, who, end_user, now)) <= quota.maximum

    @rule(
        number=st.integers(0, 99),
        answer=st.sampled_from(["accepted", "accepted", "refused", "not sent", "refused us", "lost"]),
        cancels=st.booleans(),
    )
    def send(self, *, number: int, answer: str, cancels: bool) -> None:
        """One job is sent; while its POST is on its way its caller may cancel."""
        found = self.some(number, "queued")
        if found is None:
            self.submit(person=number % 4, end_user=None, seconds=5, is_late=number % 3 == 0)
            return
        job_id, job = found
        fal = self.house.fal
        answers: dict[str, Any] = {
            "accepted": fal.accepts,
            "refused": lambda: Refused(failed(422).error),
            "not sent": lambda: NotSent("x"),
            "refused us": lambda: RefusedUs(403, "x", None),
            "lost": lambda: Unknown("x", None),
        }

        async def cancel(_call: str) -> None:
            assert (await cancel_job(self.late.rooms, calling(job.who), job_id))[0] == 202
            job.cancel = True

        async def act() -> None:
            await self.only_due(job_id)
            fal.submit_outcome, fal.called = answers[answer], cancel if cancels else None
            assert await self.house.send() == 1
            fal.called = None

        self.run(act())
        match answer:
            case "accepted":
                job.status, job.at_fal = "submitted", True
            case "refused":
                self.end(job, "failed")
            case "lost":
                job.status = "unconfirmed"
            case _:
                self.put_back(job)

    @rule(number=st.integers(0, 99))
    def dispatcher_dies(self, number: int) -> None:
        """It claimed a job and never came back; its answer may come late."""
        found = self.some(number, "queued")
        if found is None:
            self.submit(person=number % 4, end_user=None, seconds=5, is_late=number % 3 == 0)
            return
        job_id, job = found

        async def act() -> None:
            await self.only_due(job_id)
            (job.claimed,) = await self.house.claim()
            await self.house.execute("UPDATE jobs SET next_check_at = now() WHERE id = $1", job_id)
            await self.late.track()

        self.run(act())
        job.status = "unconfirmed"

    @rule(number=st.integers(0, 99))
    def answer_comes_late(self, number: int) -> None:
        late = [(job_id, job) for job_id, job in self.model.jobs.items() if job.claimed]
        if not late:
            self.dispatcher_dies(number)
            return
        job_id, job = late[number % len(late)]
        claimed, job.claimed = job.claimed, None
        assert claimed is not None
        known = self.run(self.house.moves.accepted(claimed, self.house.fal.accepts().ref, position=None))
        if job.status == "unconfirmed":
            assert known
            job.status, job.at_fal = "submitted", True
        elif job.is_settled:
            assert known  # an admin has charged the job: that was for this request
        else:
            assert not known
            self.strays.append(job_id)

    @rule(number=st.integers(0, 99))
    def not_sent_after_all_yet_fal_has_it(self, number: int) -> None:
        """A fal request that is not its job's current one."""
        found = self.some(number, "queued")
        if found is None:
            self.submit(person=number % 4, end_user=None, seconds=5, is_late=number % 3 == 0)
            return
        job_id, _ = found

        async def act() -> None:
            await self.only_due(job_id)
            (claimed,) = await self.house.claim()
            assert await self.house.moves.put_back(claimed, "not_sent", was=["submitting"], after_seconds=0)
            assert not await self.house.moves.accepted(claimed, self.house.fal.accepts().ref, position=None)

        self.run(act())
        self.strays.append(job_id)

    @precondition(lambda self: self.strays)
    @rule()
    def strays_are_billed(self) -> None:
        async def act() -> None:
            await self.house.execute("UPDATE attempts SET stray_check_at = now() WHERE stray_check_at IS NOT NULL")
            self.house.fal.status_outcome = Completed(None, None)
            self.house.fal.result_outcome = Succeeded({}, units("5"))
            await self.house.follow_strays()

        self.run(act())
        for job_id in self.strays:
            job = self.model.jobs[job_id]
            job.charged_usd += job.usd
            job.charged_seconds += job.seconds
        self.strays.clear()

    # What becomes of it at fal

    @rule(
        number=st.integers(0, 99),
        answer=st.sampled_from(["queued", "running", "trouble", "succeeded", "4xx", "5xx", "canceled", "deadline"]),
        bill=st.sampled_from(BILLS),
    )
    def track(self, *, number: int, answer: str, bill: str | None) -> None:
        following = [(i, j) for i, j in self.model.jobs.items() if j.is_open and j.at_fal]
        if not following:
            self.send(number=number, answer="accepted", cancels=False)
            return
        job_id, job = following[number % len(following)]
        fal, billable = self.house.fal, units(bill) if bill is not None else None
        results: dict[str, Any] = {
            "succeeded": Succeeded({"video": {}}, billable),
            "4xx": failed(422, billable),
            "5xx": failed(500, billable),
            "canceled": failed(499, billable, canceled=True),
            "deadline": failed(504, None, start_deadline=True),
        }
        statuses: dict[str, Any] = {"queued": Queued(1), "running": InProgress(), "trouble": Trouble("x")}

        async def act() -> datetime | None:
            await self.only_due(job_id)
            fal.status_outcome = statuses.get(answer, Completed(None, None))
            fal.result_outcome = results.get(answer, Trouble("x"))
            before = await self.house.job(job_id)
            assert await self.house.track() == 1
            since: datetime | None = before["started_at"] or before["submitted_at"] + timedelta(seconds=3600)
            return since

        since = self.run(act())
        is_late = since is not None and self.clock.now - since > timedelta(seconds=86_400)
        said = {"queued": "submitted", "running": "running"}
        if answer in said or answer == "trouble":
            job.status = "unconfirmed" if is_late else said.get(answer, job.status)
        elif answer == "deadline":
            job.let_go_at = self.clock.now
            self.put_back(job)
        else:
            is_success, is_free = answer == "succeeded", answer == "5xx" or bill == "0"
            usd = Decimal(0) if is_free or (bill is None and not is_success) else job.usd
            is_old = self.clock.now - job.held_at > timedelta(seconds=86_400)
            if answer not in ENDED or (answer == "canceled" and is_old and not job.cancel):
                answer = "failed"  # a cancel that nobody asked for is ours, of a job past its deadline
            self.end(job, answer, usd)
            job.at_fal = False

    @rule(number=st.integers(0, 99))
    def cancel(self, number: int) -> None:
        jobs = list(self.model.jobs.items())
        if not jobs:
            self.submit(person=number % 4, end_user=None, seconds=5, is_late=number % 3 == 0)
            return
        job_id, job = jobs[number % len(jobs)]
        try:
            status, _ = self.run(cancel_job(self.house.rooms, calling(job.who), job_id))
        except JobEnded:
            assert job.status in {"succeeded", "failed"}
            return
        if job.status == "queued":
            self.end(job, "canceled")
            job.cancel = True
        assert status == (200 if job.status == "canceled" else 202)
        job.cancel = job.cancel or job.is_open

    @rule(
        number=st.integers(0, 99),
        outcome=st.sampled_from(["charge", "void"]),
        amount=st.sampled_from([None, "0.01", "9.00", "0"]),
    )
    def resolve(self, *, number: int, outcome: Any, amount: str | None) -> None:
        jobs = list(self.model.jobs.items())
        if not jobs:
            self.submit(person=number % 4, end_user=None, seconds=5, is_late=number % 3 == 0)
            return
        job_id, job = self.some(number, "unconfirmed") or jobs[number % len(jobs)]
        resolution = Resolution(
            outcome=outcome, amount_usd=Decimal(amount) if amount and outcome == "charge" else None, note="asked"
        )
        try:
            self.run(resolve_job(self.house.rooms, COMMAND_LINE, job_id, resolution))
        except JobEnded:
            assert not job.is_open
        except JobNotUnconfirmed:
            assert job.is_open
            assert job.status != "unconfirmed"
        else:
            assert job.status == "unconfirmed"
            given = resolution.amount_usd if resolution.amount_usd is not None else job.usd
            self.end(job, "failed", given if outcome == "charge" else Decimal(0))
            job.is_settled = outcome == "charge" and given > 0
            if outcome == "void" and job.at_fal:
                self.strays.append(job_id)  # voided, yet fal has it: what it bills all the same is booked
            job.at_fal = False

    @rule()
    def those_that_waited_too_long_end(self) -> None:
        self.run(end_overdue(self.house.wiring, self.house.rooms.endings))
        for job in self.model.jobs.values():
            since = job.let_go_at or job.held_at
            if job.status == "queued" and since < self.clock.now - timedelta(seconds=QUEUE_SECONDS):
                self.end(job, "failed")

    @rule(number=st.integers(0, 99), usd=st.sampled_from(["-0.40", "0.28", "0"]), seconds=st.sampled_from([-1, 0, 2]))
    def adjust(self, number: int, usd: str, seconds: int) -> None:
        found = self.some(number, *ENDED)
        if found is None:
            self.submit(person=number % 4, end_user=None, seconds=5, is_late=number % 3 == 0)
            return
        job_id, job = found
        self.sources += 1
        extra = Extra(
            kind="adjustment", source=f"bill-{self.sources}", usd=Decimal(usd), seconds=Decimal(seconds), note="bill"
        )
        self.run(book(self.house, job_id, extra))
        job.charged_usd += extra.usd
        job.charged_seconds += extra.seconds

    @rule(number=st.integers(0, 99), usd=st.sampled_from(["-0.40", "0.28", "-9"]), is_late=st.booleans())
    def finance_adjusts(self, *, number: int, usd: str, is_late: bool) -> None:
        found = self.some(number, *ENDED)
        if found is None:
            self.submit(person=number % 4, end_user=None, seconds=5, is_late=is_late)
            return
        job_id, job = found
        try:
            self.run(adjust(self.late if is_late else self.house, job_id, usd))
        except InvalidInput:
            assert job.charged_usd + Decimal(usd) < 0
        else:
            job.charged_usd += Decimal(usd)

    # Months

    def months(self, back: int) -> date:
        month = local_date(self.clock.now, self.model.zone).replace(day=1)
        for _ in range(back):
            month = (month - timedelta(days=1)).replace(day=1)
        return month

    @rule(back=st.sampled_from([0, 1, 1, 2]))
    def close_a_month(self, back: int) -> None:
        month = self.months(back)
        if back == 0 and not self.closed:
            self.a_window_is_about_to_end_or_just_has("month", 1)
        try:
            closing = self.run(close(self.house, month))
        except MonthNotOver:
            assert month == self.months(0)
        except MonthClosed:
            assert month <= max(self.closed)
        except MonthEmpty:
            assert not self.closed
        else:
            self.closed |= {one.month: totals(one) for one in closing.closed}
            assert max(self.closed) == month

    @precondition(lambda self: self.closed)
    @rule(is_newest=st.booleans())
    def reopen_a_month(self, *, is_newest: bool) -> None:
        month = max(self.closed) if is_newest else min(self.closed)
        try:
            self.run(reopen(self.house, month))
        except LaterMonthClosed:
            assert month < max(self.closed)
        else:
            assert month == max(self.closed)
            del self.closed[month]

    @invariant()
    def closed_months_stay_as_they_were(self) -> None:
        for month, as_it_was in self.closed.items():
            assert self.run(sums(self.house, month)) == as_it_was

    # What always holds

    @invariant()
    def rows_agree_with_the_model(self) -> None:
        Machine.steps += 1
        rows = {row["id"]: row for row in self.run(self.house.rows("SELECT * FROM jobs"))}
        assert rows.keys() == self.model.jobs.keys()
        for job_id, job in self.model.jobs.items():
            row = rows[job_id]
            assert row["status"] == job.status
            assert row["held_usd"] == (job.usd if job.is_open else 0)
            assert row["charged_usd"] == (None if job.is_open else job.charged_usd)
            assert (row["finished_at"] is None) == job.is_open
            assert row["quoted_usd"] == job.usd
            assert (row["cancel_requested_at"] is not None) == job.cancel
            if not job.is_open:
                kept = {k: v for k, v in row.items() if k not in {"quota_usage_ids", "charged_usd", "version"}}
                job.row = job.row or kept
                assert kept == job.row, "an ended job has changed"

    @invariant()
    def the_audit_is_clean(self) -> None:
        differences = self.run(self.house.audit())
        for difference in differences:
            note(str(difference))
        assert differences == []

    @invariant()
    def every_quota_counts_what_the_model_counts(self) -> None:
        self.run(self.compare_quotas())

    async def compare_quotas(self) -> None:
        for house in (self.house, self.late):
            for who, end_user in zip(self.people, ("x", None, "y/x", None), strict=True):
                holder, now = Holder(who.team_id, who.user_id, who.key_id, end_user), house.clock()
                async with house.db.plain() as plain:
                    found = applying_to(holder, await find_applying(plain, [holder], now=now, zone=self.model.zone))
                    assert {one.quota.id for one in found} == {q.id for q in self.model.applying(who, end_user)}
                    for one in found:
                        usage = await read_usage(plain, one)
                        expected = self.model.counted(self.model.quotas[one.quota.id], who, end_user, now)
                        assert (usage.used, usage.held) == expected, f"{one.quota} of {one.subject}"


def run_machine(url: str, *, examples: int, steps: int, is_random: bool = False) -> None:
    """The fast run walks the same steps each time and stops at a failure; the slow one seeks, and shrinks."""
    Machine.url, Machine.steps, Machine.accepted, Machine.refused = url, 0, 0, 0
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=not is_random,
            phases=list(Phase) if is_random else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{Machine.steps} steps, {Machine.accepted} submits accepted, {Machine.refused} refused")  # noqa: T201


def test_money_and_jobs_agree_with_the_model_after_each_step(database_url: str) -> None:
    run_machine(database_url, examples=8, steps=30)


@pytest.mark.slow
def test_money_and_jobs_agree_with_the_model_after_thousands_of_steps(database_url: str) -> None:
    run_machine(database_url, examples=150, steps=60, is_random=True)
