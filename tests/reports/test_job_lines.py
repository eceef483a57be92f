"""`GET /v1/reports/jobs.csv`: a line for each job, whose jobs, by which date, and what is no question."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import pytest

from app.reports.lines import pages
from tests.http.world import refusal
from tests.reports.counter import BERLIN, Counter, lines_of, shown, total
from tests.reports.history import Booked, Job, Maker, job_id_of, settled

pytestmark = pytest.mark.asyncio(loop_scope="package")

FIVE: Final = Decimal("1.40")
MAY: Final = datetime(2026, 5, 4, 10, tzinfo=UTC)
NOW: Final = datetime(2026, 5, 20, 10, tzinfo=UTC)
COLUMNS: Final = (
    "job_id,created_at,charged_at,charged_month,status,model,endpoint,team_id,team,user_id,user,key_id,key,end_user,tags,"
    "seconds,quoted_usd,held_usd,charged_usd,fal_request_id"
)


def at_midnight(month: int, day: int, **off: float) -> datetime:
    """The first instant of a day in Berlin, and so much later."""
    return datetime(2026, month, day, tzinfo=BERLIN).astimezone(UTC) + timedelta(**off)


async def test_a_line_tells_whose_a_job_was_and_both_of_its_dates(counter: Counter) -> None:
    accepted, charged = at_midnight(5, 1, seconds=-1), at_midnight(5, 1, minutes=3)
    job = settled(
        counter.by("mia", end_user="42", tags={"film": 'the "big", one', "x": "ü\n"}),
        charged, "1.4", held_at=accepted,
    )  # fmt: skip
    await counter.fill(job, now=NOW)
    answer = await counter.ask("jobs.csv?since=2026-04-30&until=2026-05-01")
    assert answer.text.partition("\r\n")[0] == COLUMNS
    assert answer.headers["content-disposition"] == 'attachment; filename="jobs_2026-04-30_2026-05-01.csv"'
    mia = counter.people["mia"]
    (line,) = lines_of(answer.text)
    assert {name: line[name] for name in line if name not in {"team", "user", "key", "tags"}} == {
        "job_id": shown("job", job_id_of(0, job)),
        "created_at": "2026-04-30T21:59:59.000000Z",
        "charged_at": "2026-04-30T22:03:00.000000Z",
        "charged_month": "2026-05",
        "status": "succeeded",
        "model": "kling-2.1-master",
        "endpoint": "x",
        "team_id": mia.team_id,
        "user_id": mia.user_id,
        "key_id": mia.key_id,
        "end_user": "42",
        "seconds": "5",
        "quoted_usd": "1.40",
        "held_usd": "0.00",
        "charged_usd": "1.40",
        "fal_request_id": "",
    }
    assert (line["team"][:5], line["user"][:5], line["key"]) == ("team ", "user ", "key")
    assert json.loads(line["tags"]) == {"film": 'the "big", one', "x": "ü\n"}


async def test_by_either_of_its_dates_a_job_is_found_on_its_own_day_only(counter: Counter) -> None:
    mia = counter.by("mia")
    over_midnight = settled(mia, at_midnight(5, 2, minutes=1), "1.4", held_at=at_midnight(5, 2, minutes=-1))
    at_the_first_instant = settled(mia, at_midnight(5, 2), "1", held_at=at_midnight(5, 2))
    open_still = Job(mia, (Booked("hold", at_midnight(5, 2, hours=3), FIVE, Decimal(5)),))
    void = Job(mia, (*open_still.entries, Booked("void", at_midnight(5, 2, hours=9), FIVE, Decimal(5), "failed")))
    await counter.fill(over_midnight, at_the_first_instant, open_still, void, now=NOW)

    async def found(query: str) -> list[str]:
        return [line["quoted_usd"] + line["status"] for line in await counter.lines(f"jobs.csv?{query}")]

    assert await found("since=2026-05-01&until=2026-05-02") == ["1.40succeeded"]
    assert await found("since=2026-05-02&until=2026-05-03") == ["1.00succeeded", "1.40running", "1.40failed"]
    assert await found("since=2026-05-01&until=2026-05-02&date=charged") == []
    assert await found("since=2026-05-02&until=2026-05-03&date=charged") == [
        "1.00succeeded", "1.40succeeded", "1.40failed",
    ]  # fmt: skip
    running = (await counter.lines("jobs.csv?since=2026-05-02"))[1]
    assert [running[name] for name in ("charged_at", "charged_month", "charged_usd", "held_usd")] == [
        "", "", "", "1.40",
    ]  # fmt: skip


async def test_a_line_shows_what_the_job_has_cost_until_now(counter: Counter) -> None:
    mia = counter.by("mia")
    charged = settled(mia, MAY, "1.40")
    later = Booked("adjustment", MAY + timedelta(days=9), Decimal("-0.123456789"), Decimal(0))
    await counter.fill(Job(mia, (*charged.entries, later)), now=NOW)
    (line,) = await counter.lines("jobs.csv?date=charged&since=2026-05-04&until=2026-05-05")
    assert (line["charged_usd"], line["charged_at"]) == ("1.276543211", "2026-05-04T10:00:00.000000Z")


async def test_who_sees_which_jobs(counter: Counter) -> None:
    makers = {"mia": 1, "lead": 2, "stranger": 4, "finance": 8}
    await counter.fill(*(settled(counter.by(who), MAY, str(usd)) for who, usd in makers.items()), now=NOW)
    moved = Maker(counter.by("stranger").team, counter.by("lead").user, counter.by("lead").key)
    for path in ("jobs.csv?", "jobs.csv?date=charged"):
        sums = {who: int(total(await counter.lines(path, who), "charged_usd")) for who in counter.people}
        assert sums == {"mia": 1, "lead": 3, "stranger": 4, "finance": 15, "admin": 15}
        assert int(total(await counter.lines(path), "charged_usd")) == 15
    await counter.fill(settled(moved, MAY, "1"), settled(counter.by("mia"), MAY, "2"), now=NOW)
    for path in ("jobs.csv?", "jobs.csv?date=charged"):
        assert len(await counter.lines(path, "lead")) == 2, "a lead's own, also of the team it was in before"


async def test_filters_leave_out_what_is_not_of_it_and_never_open_more(counter: Counter) -> None:
    mia, stranger = counter.people["mia"], counter.people["stranger"]
    await counter.fill(
        settled(counter.by("mia"), MAY, "1"),
        settled(counter.by("mia", model="veo-3.1"), MAY, "2"),
        settled(counter.by("stranger"), MAY, "4"),
        now=NOW,
    )
    for date in ("created", "charged"):
        for query, who, usd in (
            (f"user_id={mia.user_id}", "admin", 3), (f"team_id={stranger.team_id}", "finance", 4),
            ("model=veo-3.1", "admin", 2), (f"user_id={mia.user_id}&model=veo-3.1", "lead", 2),
            (f"user_id={stranger.user_id}", "mia", 0), (f"team_id={stranger.team_id}", "lead", 0),
            (f"user_id={stranger.user_id}", "lead", 0), ("model='", "admin", 0),
        ):  # fmt: skip
            lines = await counter.lines(f"jobs.csv?date={date}&{query}", who)
            assert int(total(lines, "charged_usd")) == usd, (date, query, who)


@pytest.mark.parametrize("date", ["created", "charged"])
async def test_every_job_once_and_in_order_however_small_the_pages(
    counter: Counter, date: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "PAGE_LINES", 3)
    moments = [
        MAY,
        MAY,
        MAY,
        MAY,
        MAY,
        MAY + timedelta(microseconds=1),
        *(MAY + timedelta(days=n) for n in range(1, 10)),
    ]
    history = [settled(counter.by("mia"), moment, "1") for moment in moments]
    await counter.fill(*history, now=NOW)
    for who in ("mia", "lead", "admin"):
        lines = await counter.lines(f"jobs.csv?date={date}&since=2026-05-01", who)
        ids = [shown("job", job_id_of(number, job)) for number, job in enumerate(history)]
        assert sorted(line["job_id"] for line in lines) == sorted(ids)
        name = "created_at" if date == "created" else "charged_at"
        assert [line[name] for line in lines] == sorted(line[name] for line in lines)


async def test_texts_of_others_are_no_formulas(counter: Counter) -> None:
    maker = counter.by("mia", end_user="=cmd()", tags={"x": "=1+1"}, model=" -2+3")
    await counter.fill(settled(maker, MAY, "1"), now=NOW)
    (line,) = await counter.lines("jobs.csv?")
    assert (line["end_user"], line["model"]) == ("'=cmd()", "' -2+3")
    assert line["tags"].startswith("{")


@pytest.mark.parametrize("path", ["jobs.csv", "focus.csv"])
async def test_what_is_no_period_is_refused_with_every_fault(counter: Counter, path: str) -> None:
    for query, parameters in (
        ("since=2026-05-02&until=2026-05-01", ["until"]), ("since=9999-01-01", ["since"]),
        ("until=9999-12-31", ["until"]),
        ("since=tomorrow&until=0001-01-01", ["since", "until"]), ("limit=5&since=x", ["limit", "since"]),
        ("since=2026-05-01&since=2026-05-01", ["since"]), ("since=2001-01-01", ["since"]),
        ("since=%00", ["since"]),
        ("=cmd()=1", [""]),
    ):  # fmt: skip
        problem = refusal(await counter.ask(f"{path}?{query}"), 422, "invalid-input")
        assert [fault["parameter"] for fault in problem["errors"]] == parameters, query


async def test_what_is_no_filter_is_refused(counter: Counter) -> None:
    for query in ("date=settled", "team_id=7", "user_id=team_00000000000000000000000000000000", "date="):
        problem = refusal(await counter.ask(f"jobs.csv?{query}"), 422, "invalid-input")
        assert [fault["parameter"] for fault in problem["errors"]] == [query.partition("=")[0]]
    for query in ("month=2026-13", "month=9999-01", "month=2026-05&since=2026-05-01", "month="):
        problem = refusal(await counter.ask(f"focus.csv?{query}"), 422, "invalid-input")
        assert [fault["parameter"] for fault in problem["errors"]] == ["month"]


async def test_the_schema_promises_csv_and_nothing_else(counter: Counter) -> None:
    document = (await counter.gateway.client.get("/openapi.json")).json()
    for name in ("jobs.csv", "focus.csv"):
        assert list(document["paths"][f"/v1/reports/{name}"]["get"]["responses"]["200"]["content"]) == ["text/csv"]
