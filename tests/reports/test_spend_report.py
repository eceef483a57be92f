"""`GET /v1/reports/spend`: who sees what, as JSON and as CSV, and what is no question."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import httpx
import jsonschema_rs
import pytest
import pytest_asyncio

from app.accounts.callers import ADMIN_KEY, COMMAND_LINE, Actor
from app.ids import show
from app.ledger.spend import rebuild_spend
from app.reports import limits
from app.reports.desks import Desks, desks_within
from app.settings import wheel_zone
from tests.accounts.office import ADMIN_SECRET, START, Office, Somebody
from tests.conftest import settings_for
from tests.databases import Databases
from tests.reports.history import Booked, Job, Maker, settled, write

PATH: Final = "/v1/reports/spend"
TODAY: Final = START
ZERO: Final = {
    "charged_usd": "0.00", "held_usd": "0.00", "seconds": 0, "jobs": 0, "succeeded": 0, "failed": 0, "canceled": 0,
}  # fmt: skip


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def url(databases: Databases) -> Iterator[str]:
    with databases.lent() as url:
        yield url


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def open_office(url: str) -> AsyncIterator[Office]:
    office = Office(settings_for(url, timezone="Europe/Berlin"))
    await office.open()
    yield office
    await office.close()


@pytest_asyncio.fixture(loop_scope="module")
async def office(open_office: Office) -> Office:
    """The same for all: each test has a history of its own, and none until it writes one."""
    await fill(open_office)
    return open_office


def by(who: Somebody, **more: Any) -> Maker:
    return Maker(who.user.team_id, who.user.id, who.key.id, **more)


async def fill(office: Office, *history: Job) -> None:
    await write(office.db, history)
    await rebuild_spend(office.db, zone=wheel_zone("Europe/Berlin"))


async def ask(
    office: Office, query: str = "", who: Somebody | str = ADMIN_SECRET, accept: str | None = None
) -> httpx.Response:
    secret = who if isinstance(who, str) else who.key.secret
    headers = {"Authorization": f"Bearer {secret}"} | ({"Accept": accept} if accept else {})
    return await office.client.get(f"{PATH}?{query}", headers=headers)


async def lines(office: Office, query: str, who: Somebody | str = ADMIN_SECRET) -> list[dict[str, Any]]:
    answer = await ask(office, query, who)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def rows(office: Office, query: str) -> list[list[str]]:
    answer = await ask(office, f"{query}&format=csv")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.text.endswith("\r\n")
    return list(csv.reader(io.StringIO(answer.text, newline="")))


async def test_an_empty_ledger_has_no_lines_and_a_total_of_nothing(office: Office) -> None:
    for query in ("", "group_by=day,team", "group_by=end_user", "since=2026-01-01T12:00:00Z&until=2026-05-04"):
        answer = (await ask(office, query)).json()
        assert answer["data"] == []
        assert answer["total"] == ZERO
    assert (await rows(office, ""))[1:] == [["0.00", "0.00", "0", "0", "0", "0", "0"]]
    assert (await rows(office, "group_by=day"))[1:] == [["total", "0.00", "0.00", "0", "0", "0", "0", "0"]]


async def test_lines_name_what_they_are_of_in_order(office: Office) -> None:
    yesterday = TODAY - timedelta(days=1)
    await fill(
        office,
        settled(by(office.member), TODAY, "1.40"),
        settled(by(office.other_member), TODAY, "2.80", seconds="10"),
        settled(by(office.lead), TODAY, "1.00"),
        settled(by(office.lead), yesterday, "0.28", seconds="1"),
        Job(by(office.other_lead), (Booked("hold", TODAY, Decimal("1.40"), Decimal(5)),)),
    )
    found = await lines(office, "group_by=day,team&group_by=user")
    assert [(line["day"], line["team"], line["user"], line["charged_usd"]) for line in found] == [
        ("2026-05-03", "Film", "Lea", "0.28"),
        ("2026-05-04", "Print", "Max", "2.80"),
        ("2026-05-04", "Film", "Mia", "1.40"),
        ("2026-05-04", "Film", "Lea", "1.00"),
        ("2026-05-04", "Print", "Leo", "0.00"),
    ]
    assert found[1] == {
        "day": "2026-05-04", "team_id": show("team", office.print.id), "team": "Print",
        "user_id": office.other_member.user_id, "user": "Max",
        "charged_usd": "2.80", "held_usd": "0.00", "seconds": 10, "jobs": 1, "succeeded": 1, "failed": 0, "canceled": 0,
    }  # fmt: skip
    assert found[-1]["held_usd"] == "1.40"
    (key,) = await lines(office, f"group_by=key&until={TODAY:%Y-%m-%d}")
    assert (key["key_id"], key["key"]) == (office.lead.key_id, "a key")


async def test_who_spent_the_same_stands_in_the_order_of_ids(office: Office) -> None:
    equal = [office.lead, office.member, office.admin, office.finance]
    await fill(office, *(settled(by(who), TODAY, "1.40") for who in equal))
    found = [line["user_id"] for line in await lines(office, "group_by=user,model")]
    assert found == sorted(who.user_id for who in equal)


async def test_each_role_sees_its_own_the_teams_or_all(office: Office) -> None:
    """A team's are the jobs that were made in it, whoever is in it now."""
    moved = Maker(office.print.id, office.member.user.id, office.member.key.id)
    await fill(
        office,
        settled(by(office.member), TODAY, "1.00"),
        settled(moved, TODAY, "2.00"),
        settled(by(office.lead), TODAY, "4.00"),
        settled(by(office.other_member), TODAY, "8.00"),
        Job(by(office.finance), (Booked("hold", TODAY, Decimal("16.00"), Decimal(5)),)),
    )
    for who, charged, held in (
        (office.member, "3.00", "0.00"), (office.lead, "5.00", "16.00"), (office.other_lead, "10.00", "0.00"),
        (office.finance, "15.00", "16.00"), (office.admin, "15.00", "16.00"), (ADMIN_SECRET, "15.00", "16.00"),
    ):  # fmt: skip
        for query in ("", "group_by=user,team", "group_by=end_user", "since=2026-05-01T00:00:01Z&group_by=model"):
            total = (await ask(office, query, who)).json()["total"]
            assert (total["charged_usd"], total["held_usd"]) == (charged, held), query
    assert {line["user"] for line in await lines(office, "group_by=user", office.member)} == {"Mia"}


async def test_this_month_begins_at_its_first_instant_in_timezone(office: Office) -> None:
    first = datetime(2026, 4, 30, 22, tzinfo=UTC)  # midnight in Berlin
    await fill(
        office,
        settled(by(office.member), first - timedelta(microseconds=1), "1.00"),
        settled(by(office.member), first, "2.00", held_at=first - timedelta(hours=1)),
    )
    answer = (await ask(office)).json()
    assert answer["data"] == [answer["total"]]
    assert answer["total"] == ZERO | {"charged_usd": "2.00", "seconds": 5, "succeeded": 1}
    assert (answer["since"], answer["until"], answer["timezone"]) == ("2026-04-30T22:00:00Z", None, "Europe/Berlin")
    for until, charged in (("2026-05-01", "1.00"), ("2026-04-30T22:00:00.000001Z", "3.00")):
        answer = (await ask(office, f"since=2026-04-30&until={until}")).json()
        assert answer["total"]["charged_usd"] == charged
        assert answer["since"] == "2026-04-29T22:00:00Z"


async def test_texts_of_others_are_no_formulas_and_figures_stay_figures(office: Office) -> None:
    team = await office.team("@Film")
    tags = {"film": "=cmd()", "x": "\tone", "y": "-1"}
    maker = Maker(team.id, office.member.user.id, office.member.key.id, end_user="  +1,\n2", tags=tags)
    charge = Booked("adjustment", TODAY, Decimal("-2.10"), Decimal("-2.5"))
    job = settled(maker, TODAY, "1.40")
    await fill(office, Job(maker, (*job.entries, charge)))
    assert await rows(office, "group_by=tag.film,tag.x,tag.y,end_user,team") == [
        ["tag.film", "tag.x", "tag.y", "end_user", "team_id", "team", *ZERO],
        ["'=cmd()", "'\tone", "'-1", "'  +1,\n2", show("team", team.id), "'@Film",
         "-0.70", "0.00", "2.5", "1", "1", "0", "0"],
        ["total", "", "", "", "", "", "-0.70", "0.00", "2.5", "1", "1", "0", "0"],
    ]  # fmt: skip
    (line,) = await lines(office, "group_by=tag.film,tag.none")
    assert (line["tag.film"], line["tag.none"]) == ("=cmd()", None)


async def test_a_csv_says_in_its_name_what_it_is_of(office: Office) -> None:
    for query, name in (
        ("", "spend_2026-05-01_open.csv"),
        ("since=2026-04-01&until=2026-05-01", "spend_2026-04-01_2026-05-01.csv"),
        ("since=2026-04-01T12:00:00Z", "spend_2026-04-01T140000_open.csv"),
    ):
        answer = await ask(office, f"{query}&format=csv")
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"), ("*/*", "application/json"), ("application/json", "application/json"),
        ("text/csv", "text/csv"), ("Text/CSV ; q=0.8, */*;q=0.1", "text/csv"), ("text/*", "text/csv"),
        ("text/csv;q=0.5, application/json", "application/json"), ("image/png", "application/json"),
        ("text/csv;q=0", "application/json"), ("text/csv;q=x", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
    ],
)  # fmt: skip
async def test_accept_is_asked_where_no_format_is_given(office: Office, accept: str | None, kind: str) -> None:
    answer = await ask(office, "", accept=accept)
    assert answer.headers["content-type"].partition(";")[0] == kind
    assert answer.headers["vary"] == "Accept"
    forced = await ask(office, "format=json", accept=accept)
    assert forced.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("since=2026-05-02&until=2026-05-01", ["until"]),
        ("since=2026-05-02&until=2026-05-02", ["until"]),
        ("until=2026-05-01", ["until"]),  # nothing of this month
        ("since=2010-01-01&until=2026-05-01", ["since"]),
        ("since=2010-01-01", ["since"]),
        ("since=9999-01-01", ["since"]),
        ("since=1999-12-31", ["since"]),
        ("since=0001-01-01&until=9999-12-31", ["since", "until"]),
        ("since=2026-02-30", ["since"]),
        ("since=2026-05-01T00:00:00", ["since"]),
        ("since=2026-05-01T00:00:00+02:00", ["since"]),  # a + that was not written %2B
        ("since=20260501", ["since"]),
        ("since=yesterday", ["since"]),
        ("since=", ["since"]),
        ("since=%00&until=%FF", ["since", "until"]),
        ("since=2026-05-01&since=2026-05-02", ["since"]),
        ("group_by=teem", ["group_by"]),
        ("group_by=", ["group_by"]),
        ("group_by=day,,team", ["group_by"]),
        ("group_by=day,team&group_by=day", ["group_by"]),
        ("group_by=tag.%3Dcmd()", ["group_by"]),
        ("group_by=tag.", ["group_by"]),
        ("group_by=tag.A", ["group_by"]),
        ("group_by=tag.x%00", ["group_by"]),
        (f"group_by=tag.{'x' * 65}", ["group_by"]),
        ("group_by=tag.a,tag.b,tag.c,tag.d", ["group_by"]),
        ("format=xlsx", ["format"]),
        ("format=csv&format=json", ["format"]),
        ("timezone=UTC", ["timezone"]),
        ("cursor=x&since=x&until=x&group_by=x&format=x", ["cursor", "format", "group_by", "since", "until"]),
    ],
)  # fmt: skip
async def test_what_is_no_question_is_refused_by_name(office: Office, query: str, parameters: Sequence[str]) -> None:
    answer = await ask(office, query)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["code"] == "invalid-input"
    assert sorted(fault["parameter"] for fault in problem["errors"]) == parameters
    assert not any("cmd" in fault["detail"] for fault in problem["errors"])


async def test_ten_years_are_a_question_and_a_day_more_is_none(office: Office) -> None:
    assert (await ask(office, "since=2016-01-01&until=2026-01-01")).status_code == 200
    assert (await ask(office, "since=2016-01-01&until=2026-01-02")).status_code == 422
    assert (await ask(office, "since=2030-01-01")).json()["data"] == []


async def test_a_wrong_key_hears_that_before_its_faults(office: Office) -> None:
    assert (await ask(office, "since=x", "fg_nobody")).status_code == 401


async def test_answers_are_as_openapi_has_them(office: Office) -> None:
    await fill(office, settled(by(office.member, tags={"film": "one"}), TODAY, "1.40"))
    document = (await office.client.get("/openapi.json")).json()
    operation = document["paths"][PATH]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    validator = jsonschema_rs.validator_for(schema | {"components": document["components"]})
    for query in ("", "group_by=day,week,month,team,user,key,end_user,model,tag.film,tag.none", "until=2026-06-01"):
        validator.validate((await ask(office, query)).json())
    assert [each["name"] for each in operation["parameters"]] == ["since", "until", "group_by", "format"]


async def test_more_lines_than_an_answer_takes_are_refused(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_LINES", 2)
    await fill(office, *(settled(by(who), TODAY, "1.00") for who in (office.member, office.lead)))
    assert len(await lines(office, "group_by=user")) == 2
    await fill(office, *(settled(by(who), TODAY, "1.00") for who in (office.member, office.lead, office.admin)))
    for query in ("group_by=user", "group_by=user&format=csv"):
        answer = await ask(office, query)
        assert (answer.status_code, answer.json()["code"]) == (422, "report-too-large")
        assert answer.json()["limit_lines"] == 2


async def test_a_report_that_takes_too_long_is_refused(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_SESSION", "SET LOCAL statement_timeout = '100ms'")
    async with office.db.begin_plain() as plain:
        await plain.execute("LOCK TABLE entries IN ACCESS EXCLUSIVE MODE")
        answer = await ask(office)
    assert (answer.status_code, answer.json()["code"]) == (422, "report-too-large")
    assert (await ask(office)).status_code == 200


def sit_at(patch: pytest.MonkeyPatch, office: Office, desks: Desks) -> None:
    patch.setitem(office.app.state._state, "desks", desks)


@pytest.mark.parametrize(("connections", "desks"), [(3, 1), (4, 2), (500, 2)])
async def test_of_the_smallest_pool_too_one_connection_is_left_beside_reports_and_streams(
    connections: int, desks: int
) -> None:
    assert desks_within(connections) == desks


async def test_reports_wait_for_a_desk_and_never_take_all_connections(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    desks = Desks(2, patience_seconds=0.05)
    sit_at(monkeypatch, office, desks)
    async with desks.taken(COMMAND_LINE), desks.taken(Actor(name="another", role="admin")):
        answer = await ask(office)
        assert (answer.status_code, answer.json()["code"]) == (503, "too-many-reports")
        assert int(answer.headers["retry-after"]) > 0
    assert (await ask(office)).status_code == 200
    patient = Desks(1)
    sit_at(monkeypatch, office, patient)
    async with patient.taken(COMMAND_LINE):
        waiting = asyncio.create_task(ask(office))
        await asyncio.sleep(0)
    assert (await waiting).status_code == 200


async def test_who_has_its_share_of_desks_waits_while_others_go_on(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    desks = Desks(3, of_one=2, patience_seconds=0.05)
    sit_at(monkeypatch, office, desks)
    async with desks.taken(ADMIN_KEY), desks.taken(ADMIN_KEY):
        answer = await ask(office)
        assert (answer.status_code, answer.json()["code"]) == (503, "too-many-reports")
        assert (await ask(office, who=office.member)).status_code == 200
    assert (await ask(office)).status_code == 200
    assert not desks._theirs, "nothing is kept of who is gone"


async def test_a_report_writes_nothing(office: Office) -> None:
    await fill(office, settled(by(office.member), TODAY, "1.40"))
    assert "SET TRANSACTION READ ONLY" in limits._SESSION
    before = await lines(office, "group_by=day")
    assert await lines(office, "group_by=day") == before
