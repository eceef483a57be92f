"""Quotas: whom they are for, what they count, when they begin anew, and what a refusal says."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app.fal import Completed
from app.ledger.holds import QuotaExceeded, TooManyInFlight, TooManyJobs
from app.problems import NameTaken, Problem
from app.settings import Settings
from tests.conftest import settings_for

from .house import FIVE, START, TEN, Clock, House, Someone, id_of

SCOPES = ["organization", "team", "user", "key", "end_user"]
ZERO = Decimal(0)


def scope_id(scope: str, who: Someone) -> str | None:
    ids: dict[str, str | None] = {
        "organization": None,
        "team": id_of("team", who.team_id),
        "user": id_of("user", who.user_id),
        "key": id_of("key", who.key_id),
        "end_user": "visitor",
    }
    return ids[scope]


async def refused(house: House, who: Someone, **what: Any) -> Problem:
    with pytest.raises(Problem) as problem:
        await house.submit(who, end_user="visitor", **what)
    assert await house.audit() == []
    return problem.value


def blocking(problem: Problem) -> list[dict[str, Any]]:
    quotas: list[dict[str, Any]] = problem.members["quotas"]  # type: ignore[assignment]
    return quotas


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("metric", "window", "maximum", "code"),
    [
        ("usd", "day", "2.80", "quota-exceeded"),
        ("usd", "minute", "2.80", "too-many-jobs"),
        ("seconds", "hour", 10, "quota-exceeded"),
        ("seconds", "week", 14, "quota-exceeded"),
        ("jobs", "month", 2, "quota-exceeded"),
        ("jobs", "lifetime", 2, "quota-exceeded"),
        ("jobs", "minute", 2, "too-many-jobs"),
        ("in_flight", None, 2, "too-many-in-flight"),
    ],
)
async def test_each_scope_metric_and_window_blocks_the_third(
    house: House, scope: str, metric: str, window: str | None, maximum: str | int, code: str
) -> None:
    who = await house.someone()
    quota = await house.quota(maximum, metric, window, scope=scope, scope_id=scope_id(scope, who))
    for _ in range(2):
        await house.submit(who, end_user="visitor")
    problem = await refused(house, who)
    assert problem.code == code
    assert problem.status == (402 if code == "quota-exceeded" else 429)
    (named,) = blocking(problem)
    assert named["quota_id"] == id_of("quota", quota)
    assert (named["scope"], named["metric"], named["window"]) == (scope, metric, window)
    assert Decimal(named["maximum"]) == Decimal(maximum)
    assert Decimal(named["used"]) + Decimal(named["held"]) + Decimal(named["remaining"]) == Decimal(maximum)
    assert (named["window_ends_at"] is None) == (window in {None, "lifetime"})
    if problem.status == 429:
        assert 1 <= int(problem.headers["Retry-After"]) <= 60


async def test_a_quota_of_ones_own_goes_before_the_default(house: House) -> None:
    ann, bob = await house.someone(), await house.someone()
    await house.quota("1.40", scope="user")
    own = await house.quota("4.20", scope="user", scope_id=id_of("user", ann.user_id))
    for _ in range(3):
        await house.submit(ann)
    assert blocking(await refused(house, ann))[0]["quota_id"] == id_of("quota", own)
    await house.submit(bob)
    assert (await refused(house, bob)).code == "quota-exceeded"


async def test_own_goes_before_the_default_only_for_its_metric_and_window(house: House) -> None:
    ann = await house.someone()
    await house.quota("1.40", scope="user")
    await house.quota("100.00", "usd", "month", scope="user", scope_id=id_of("user", ann.user_id))
    await house.quota(100, "seconds", "day", scope="user", scope_id=id_of("user", ann.user_id))
    await house.submit(ann)
    assert blocking(await refused(house, ann))[0]["maximum"] == "1.40"


async def test_a_default_counts_each_one_alone(house: House) -> None:
    quota = await house.quota("1.40", scope="team")
    ann = await house.someone()
    beside_ann = await house.someone(ann.team_id)
    await house.submit(ann)
    await refused(house, beside_ann)
    await house.submit(await house.someone())
    assert await house.usage(quota) == [(ZERO, FIVE)] * 2


async def test_default_then_own_then_default_again_counts_all_that_was_held_meanwhile(house: House) -> None:
    ann = await house.someone()
    default = await house.quota("7.00", scope="user")
    await house.submit(ann)
    own = await house.quota("5.60", scope="user", scope_id=id_of("user", ann.user_id))
    ended = await house.submit(ann)
    await house.submit(ann)
    assert await house.usage(own) == [(ZERO, 3 * FIVE)], "made in mid-window, it counts what was held before"
    assert await house.usage(default) == [(ZERO, FIVE)]
    await house.end(ended)
    await house.delete_quota(own)
    assert await house.usage(default) == [(FIVE, 2 * FIVE)]
    await house.submit(ann)
    await house.submit(ann)
    await refused(house, ann)
    assert await house.usage(default) == [(FIVE, 4 * FIVE)]


async def test_deleted_and_made_again_it_counts_from_the_ledger(house: House) -> None:
    ann = await house.someone()
    first = await house.quota("2.80", scope="key", scope_id=id_of("key", ann.key_id))
    await house.submit(ann)
    await house.delete_quota(first)
    for _ in range(3):
        await house.submit(ann)
    again = await house.quota("7.00", scope="key", scope_id=id_of("key", ann.key_id))
    await house.submit(ann)
    assert await house.usage(again) == [(ZERO, 5 * FIVE)]
    await refused(house, ann)
    with pytest.raises(NameTaken):
        await house.quota("9.00", scope="key", scope_id=id_of("key", ann.key_id))
    assert await house.audit() == []


@pytest.mark.parametrize("window", ["minute", "hour", "day", "week", "month", "lifetime"])
async def test_a_quota_made_in_mid_window_counts_what_was_held_and_settled_in_it(house: House, window: str) -> None:
    """One job ended before the window began, one in it, one voided, one is held."""
    house.clock.now = datetime(2026, 4, 30, 23, 58, 30, tzinfo=UTC)
    ann = await house.someone()
    await house.end(await house.submit(ann))
    house.clock.now = datetime(2026, 6, 1, 0, 0, 1, tzinfo=UTC)  # a Monday, the first
    await house.end(await house.submit(ann), usd="1.00")
    await house.end(await house.submit(ann), usd="0")
    await house.submit(ann)
    quota = await house.quota("100.00", "usd", window)
    jobs = await house.quota(100, "jobs", window)
    seconds = await house.quota(100, "seconds", window)
    await house.submit(ann)
    before = window == "lifetime"
    assert await house.usage(quota) == [(Decimal("1.00") + before * FIVE, 2 * FIVE)]
    assert await house.usage(jobs) == [(Decimal(4) + before, ZERO)]
    assert await house.usage(seconds) == [(Decimal(5) + before * 5, Decimal(10))]
    assert await house.audit() == []


async def test_in_flight_made_in_mid_flight_counts_what_is_under_way_queued_included(house: House) -> None:
    ann = await house.someone()
    ended, queued = await house.submit(ann), await house.submit(ann)
    await house.end(ended)
    await house.submit(ann)
    await house.send()
    await house.submit(ann)
    quota = await house.quota(4, "in_flight", None)
    await house.submit(ann)
    assert await house.usage(quota) == [(ZERO, Decimal(4))]
    await refused(house, ann)
    assert not await house.void(queued), "it is at fal"
    await house.track()
    house.fal.status_outcome = Completed(None, None)
    await house.make_due()
    assert await house.track() == 2
    assert await house.usage(quota) == [(ZERO, Decimal(2))]
    await house.submit(ann)
    assert await house.audit() == []


async def test_jobs_are_never_given_back_and_seconds_follow_money(house: House) -> None:
    ann = await house.someone()
    jobs, seconds = await house.quota(3, "jobs"), await house.quota(30, "seconds")
    for usd in ("0", "1.40", "2.00"):
        await house.end(await house.submit(ann), usd=usd)
    assert await house.usage(jobs) == [(Decimal(3), ZERO)]
    assert await house.usage(seconds) == [(Decimal(10), ZERO)]
    assert blocking(await refused(house, ann))[0]["metric"] == "jobs"


async def test_a_refusal_names_every_quota_that_blocks_and_402_wins(house: House) -> None:
    ann = await house.someone()
    await house.quota(0, "in_flight", None)
    await house.quota(0, "jobs", "minute", scope="team")
    flight_only = await refused(house, ann)
    assert isinstance(flight_only, TooManyInFlight)
    assert len(blocking(flight_only)) == 2
    await house.quota("1.00", scope="user")
    await house.quota("100.00", scope="key")
    problem = await refused(house, ann)
    assert isinstance(problem, QuotaExceeded)
    assert {(one["scope"], one["metric"]) for one in blocking(problem)} == {
        ("organization", "in_flight"),
        ("team", "jobs"),
        ("user", "usd"),
    }
    user = next(one for one in blocking(problem) if one["scope"] == "user")
    assert {name: user[name] for name in ("maximum", "used", "held", "requested", "remaining")} == {
        "maximum": "1.00",
        "used": "0.00",
        "held": "0.00",
        "requested": "1.40",
        "remaining": "1.00",
    }
    assert user["window_ends_at"] == datetime(2026, 5, 5, tzinfo=UTC)
    assert "Retry-After" not in problem.headers
    assert await house.value("SELECT count(*) FROM jobs") == 0


async def test_retry_after_is_when_the_next_minute_begins(house: House) -> None:
    ann = await house.someone()
    await house.quota(1, "jobs", "minute")
    house.clock.now = START + timedelta(seconds=12, microseconds=1)
    await house.submit(ann)
    problem = await refused(house, ann)
    assert isinstance(problem, TooManyJobs)
    assert problem.headers["Retry-After"] == "48"
    house.clock.advance(seconds=48)
    await house.submit(ann)


async def test_a_lowered_maximum_blocks_and_takes_nothing_back(house: House) -> None:
    ann = await house.someone()
    quota = await house.quota("14.00")
    job_ids = [await house.submit(ann) for _ in range(5)]
    await house.change_quota(quota, "2.80")
    assert blocking(await refused(house, ann))[0]["remaining"] == "0.00"
    for job_id in job_ids[:4]:
        await house.end(job_id, usd="0")
    await house.submit(ann)
    await refused(house, ann)
    await house.change_quota(quota, "2.800000001")
    await refused(house, ann)
    await house.change_quota(quota, "4.20")
    await house.submit(ann)


async def test_end_users_of_two_teams_with_one_name_are_apart(house: House) -> None:
    quota = await house.quota("1.40", scope="end_user")
    ann, bob = await house.someone(), await house.someone()
    await house.submit(ann, end_user="42")
    await house.submit(bob, end_user="42")
    await house.submit(ann, end_user="team/42")
    await house.submit(ann)
    beside_ann = await house.someone(ann.team_id)
    with pytest.raises(QuotaExceeded):
        await house.submit(beside_ann, end_user="42")
    assert await house.usage(quota) == [(ZERO, FIVE)] * 3
    assert await house.audit() == []


async def test_a_job_settles_in_the_window_it_was_held_in(house: House) -> None:
    ann = await house.someone()
    quota = await house.quota("1.40")
    house.clock.now = datetime(2026, 5, 4, 23, 59, 59, 999_999, tzinfo=UTC)
    job_id = await house.submit(ann)
    house.clock.now = datetime(2026, 5, 5, 0, 0, 0, tzinfo=UTC)
    await house.submit(ann)
    assert await house.end(job_id, usd="1.00")
    assert await house.usage(quota) == [(Decimal("1.00"), ZERO), (ZERO, FIVE)]
    charged = await house.rows("SELECT day, charged_usd, jobs FROM spend_daily ORDER BY day")
    assert [(row["day"].day, row["charged_usd"], row["jobs"]) for row in charged] == [(4, 0, 1), (5, 1, 0)]
    assert await house.audit() == []


async def test_two_replicas_whose_clocks_differ_a_little_keep_the_same_books(house: House, settings: Settings) -> None:
    """At midnight the one counts in the old day, the other in the new; each window keeps its own maximum."""
    house.clock.now = datetime(2026, 5, 4, 23, 59, 59, tzinfo=UTC)
    late, ann = House(settings, clock=Clock(datetime(2026, 5, 5, 0, 0, 1, tzinfo=UTC))), await house.someone()
    quota = await house.quota("14.00", scope="user", scope_id=id_of("user", ann.user_id))
    outcomes = await asyncio.gather(
        *(at.submit(ann) for _ in range(15) for at in (house, late)), return_exceptions=True
    )
    made = [one for one in outcomes if isinstance(one, UUID)]
    assert len(made) == 20
    assert await house.usage(quota) == [(ZERO, 10 * FIVE)] * 2
    await asyncio.gather(*(at.end(job_id) for job_id in made for at in (house, late)))
    assert await house.usage(quota) == [(10 * FIVE, ZERO)] * 2
    assert await house.audit() == []
    await late.close()


async def test_a_default_comes_back_at_midnight_for_a_replica_that_is_late(house: House, settings: Settings) -> None:
    """Its submit read the clock before midnight; the quota of one's own was deleted just after."""
    house.clock.now = datetime(2026, 5, 4, 23, 59, 59, tzinfo=UTC)
    late, ann = House(settings, clock=Clock(house.clock.now)), await house.someone()
    default = await house.quota("4.20", scope="user")
    await house.submit(ann)
    own = await house.quota("100.00", scope="user", scope_id=id_of("user", ann.user_id))
    for _ in range(2):
        await house.submit(ann)
    house.clock.advance(seconds=2)
    await house.delete_quota(own)
    with pytest.raises(QuotaExceeded):
        await late.submit(ann)
    assert await house.usage(default) == [(ZERO, 3 * FIVE)]
    await house.submit(ann)
    assert await house.audit() == []
    await late.close()


async def test_a_day_of_25_hours_is_one_window(house: House) -> None:
    await house.execute("UPDATE installation SET timezone = 'Europe/Berlin'")
    url = house.wiring.settings.database_url.get_secret_value()
    berlin = House(settings_for(url, TIMEZONE="Europe/Berlin"), clock=house.clock)
    ann = await house.someone()
    quota = await house.quota("2.80")
    moments = [
        datetime(2026, 10, 24, 21, 59, 59, tzinfo=UTC),  # the day before
        datetime(2026, 10, 24, 22, 0, tzinfo=UTC),  # 25 October, 00:00 CEST
        datetime(2026, 10, 25, 22, 59, 59, tzinfo=UTC),  # 23:59:59 CET, 25 hours later
        datetime(2026, 10, 25, 23, 0, tzinfo=UTC),
    ]
    for moment in moments:
        house.clock.now = moment
        await berlin.end(await berlin.submit(ann))
    house.clock.now = moments[2]
    with pytest.raises(QuotaExceeded) as problem:
        await berlin.submit(ann)
    assert blocking(problem.value)[0]["window_ends_at"] == moments[3]
    assert await house.usage(quota) == [(FIVE, ZERO), (TEN, ZERO), (FIVE, ZERO)]
    days = await house.rows("SELECT day, charged_usd FROM spend_daily ORDER BY day")
    assert [(row["day"].day, row["charged_usd"]) for row in days] == [(24, FIVE), (25, TEN), (26, FIVE)]
    assert await berlin.audit() == []
    await berlin.close()


async def test_a_user_who_changes_team_takes_no_job_along(house: House) -> None:
    ann, other_team = await house.someone(), await house.team()
    quota = await house.quota("100.00", scope="team")
    own = await house.quota("100.00", scope="user")
    old = await house.submit(ann)
    await house.execute("UPDATE users SET team_id = $1 WHERE id = $2", other_team, ann.user_id)
    await house.submit(ann)
    await house.end(old)
    rows = await house.rows("SELECT subject, used, held FROM quota_usage WHERE quota_id = $1", quota)
    assert {row["subject"]: (row["used"], row["held"]) for row in rows} == {
        ann.team_id.hex: (FIVE, ZERO),
        other_team.hex: (ZERO, FIVE),
    }
    assert await house.usage(own) == [(FIVE, FIVE)]
    assert await house.audit() == []


async def test_a_price_beyond_nine_decimals_is_rounded_once_for_all(house: House) -> None:
    """Hold, quota and quote are the same figure, to the last digit."""
    ann = await house.someone()
    quota = await house.quota("100.00")
    await house.execute("UPDATE prices SET usd_per_second = 0.333333333, base_usd = 0.000000001, base_seconds = 0.5")
    await asyncio.gather(*(house.submit(ann) for _ in range(9)))
    quoted = await house.value("SELECT sum(quoted_usd) FROM jobs")
    assert await house.usage(quota) == [(ZERO, quoted)]
    assert await house.audit() == []
