"""`GET /v1/reports/reconciliation`: the lists by pages and as CSV, from what is kept; and a run a day."""

import asyncio
import base64
import csv
import math
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette

from app.fal import Platform, Trouble
from app.main import create_app
from app.reports.fal_bill import runs
from app.reports.fal_bill.daily import DailyReconciling
from app.settings import Settings
from app.web.patience import Patience
from tests.gateway import ADMIN
from tests.jobs.hand import rest
from tests.ledger.house import House

from .billing import ScriptedBill, kept, made, reconciled

PATH = "/v1/reports/reconciliation"


@pytest.fixture
async def http(settings: Settings, house: House) -> AsyncIterator[httpx.AsyncClient]:
    """Its routes, on the house's database and by its clock."""
    app = create_app(settings, clock=house.clock, work=False)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway", headers=ADMIN)
    async with cast("Starlette", app).router.lifespan_context(app), client:
        yield client


async def test_lists_come_by_pages_with_the_sums_of_all(house: House, http: httpx.AsyncClient) -> None:
    bill = ScriptedBill()
    empty = (await http.get(PATH)).json()
    assert (empty["data"], empty["next_cursor"], empty["last_run"]) == ([], None, None)
    assert empty["total"]["matched"] == {"requests": 0, "ours_usd": "0.00", "fal_usd": "0.00"}
    job_id, fal_request_id = await made(house)
    bill.bill(fal_request_id, "2.80", house.clock())
    for number in range(4):
        bill.bill(f"foreign-{number}", "0.5", house.clock() - timedelta(hours=number), paid_with="=cmd()")
    house.clock.advance(hours=1)
    await reconciled(house, bill)
    job = await house.job(job_id)

    found, cursor = [], None
    for _ in range(3):
        page = (await http.get(PATH, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        found += page["data"]
        cursor = page["next_cursor"]
    assert cursor is None
    assert [line["fal_request_id"] for line in found if line["list"] == "fal_only"] == [
        f"foreign-{number}" for number in range(4)
    ]
    (line,) = [line for line in found if line["list"] != "fal_only"]
    assert line == {
        "list": "differs",
        "fal_request_id": fal_request_id,
        "job_id": f"job_{job_id.hex}",
        "job_status": "succeeded",
        "endpoint": job["endpoint"],
        "model": "kling-2.1-master",
        "team_id": f"team_{job['team_id'].hex}",
        "user_id": f"user_{job['user_id'].hex}",
        "ours_usd": "1.40",
        "fal_usd": "2.80",
        "difference_usd": "1.40",
        "charged_at": "2026-05-04T12:00:00Z",
        "billed_at": "2026-05-04T12:00:00Z",
        "paid_with": "Key a",
        "adjusted_by_hand": False,
    }
    assert page["total"]["fal_only"] == {"requests": 4, "ours_usd": "0.00", "fal_usd": "2.00"}
    assert (
        page["last_run"] | {"by": "test", "error": None, "events": {"read": 5, "added": 5, "withdrawn": 0}}
        == (page["last_run"])
    )

    one = (await http.get(PATH, params={"list": "differs"})).json()
    assert [each["fal_request_id"] for each in one["data"]] == [fal_request_id]
    assert one["total"] == page["total"]
    text = await http.get(PATH, params={"format": "csv"})
    assert text.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(text.text.splitlines()))
    assert sorted(row["fal_request_id"] for row in rows) == sorted(line["fal_request_id"] for line in found)
    assert {row["paid_with"] for row in rows} == {"Key a", "'=cmd()"}
    assert {row["difference_usd"] for row in rows} == {"1.40", "0.50"}
    assert (await http.get(PATH, headers={"accept": "text/csv"}, params={"list": "matched"})).text.count("\n") == 1


async def test_its_csv_may_be_taken_as_slowly_as_one_likes(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, lasting = Patience.last, list[float]()

    def watched(self: Patience, seconds: float) -> None:
        lasting.append(seconds)
        last(self, seconds)

    monkeypatch.setattr(Patience, "last", watched)
    answer = await http.get(PATH, params={"format": "csv"})
    assert (answer.status_code, answer.headers["vary"]) == (200, "Accept")
    assert answer.headers["content-disposition"] == 'attachment; filename="reconciliation.csv"'
    assert lasting[-1] == math.inf


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({"since": "2026-10-02", "until": "2026-10-01"}, "until"),
        ({"since": "9999-01-01"}, "since"),
        ({"since": "0001-01-01"}, "since"),
        ({"until": "soon"}, "until"),
        ({"list": "all"}, "list"),
        ({"limit": "0"}, "limit"),
        ({"limit": "999999999999999999999"}, "limit"),
        ({"limit": "000000001999"}, "limit"),
        ({"limit": "0" * 8 + "1" * 5000}, "limit"),
        ({"limit": "\uff12"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "bm90aGluZw=="}, "cursor"),
        ({"cursor": cursor("0001-01-01T00:00:00+14:00 x")}, "cursor"),
        ({"cursor": cursor("9999-12-31T23:59:59-14:00 x")}, "cursor"),
        ({"cursor": cursor("2026-01-01T00:00:00 x")}, "cursor"),
        ({"cursor": cursor("2026-01-01T00:00:00Z \0")}, "cursor"),
        ({"format": "xml"}, "format"),
        ({"group_by": "day"}, "group_by"),
    ],
)
async def test_what_cannot_be_asked_is_told_clearly(
    http: httpx.AsyncClient, query: dict[str, str], parameter: str
) -> None:
    answer = await http.get(PATH, params=query)
    assert answer.status_code == 422, answer.text
    assert parameter in {error["parameter"] for error in answer.json()["errors"]}


def daily(house: House, bill: Any, monkeypatch: pytest.MonkeyPatch) -> DailyReconciling:
    monkeypatch.setattr(house.wiring.platform, "bill_page", bill.bill_page)
    return DailyReconciling(house.wiring)


async def turns(*days: DailyReconciling) -> None:
    await asyncio.gather(*(day._turn(1) for day in days))
    for day in days:
        await rest(day.loop)


async def test_of_all_replicas_one_reads_the_bill_once_a_day(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    bill = ScriptedBill()
    _, fal_request_id = await made(house)
    bill.bill(fal_request_id, "2.80", house.clock())
    house.clock.advance(hours=1)
    replicas = [daily(house, bill, monkeypatch) for _ in range(5)]
    await turns(*replicas)
    await turns(*replicas)
    assert len(bill.calls) == 1
    assert len(await kept(house)) == 1
    assert await house.value("SELECT count(*) FROM entries WHERE kind = 'adjustment'") == 0
    house.clock.advance(hours=23)
    await turns(*replicas)
    assert len(bill.calls) == 1
    house.clock.advance(hours=2)
    await turns(*replicas)
    assert len(bill.calls) == 2


async def test_an_outage_is_waited_out_within_the_day(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    bill = ScriptedBill(troubles=[Trouble("fal answered 403", 403)] * 2)
    day = daily(house, bill, monkeypatch)
    for minutes, calls in ((0, 1), (20, 1), (11, 2), (31, 3), (31, 3)):
        house.clock.advance(minutes=minutes)
        await turns(day)
        assert len(bill.calls) == calls, minutes
    rows = await house.rows("SELECT error, figures IS NOT NULL AS is_read FROM reconciliations ORDER BY started_at")
    assert [tuple(row.values()) for row in rows] == [("fal answered 403", False)] * 2 + [(None, True)]


async def test_a_run_that_was_killed_holds_up_nobody_for_long(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    bill = ScriptedBill()
    assert await runs.begin_daily_run(house.db, by="dead", now=house.clock()) is not None
    day = daily(house, bill, monkeypatch)
    await turns(day)
    assert bill.calls == []
    house.clock.advance(minutes=61)
    await turns(day)
    assert len(bill.calls) == 1


async def test_without_an_admin_key_there_is_no_daily_run(house: House) -> None:
    day = DailyReconciling(house.wiring)
    assert isinstance(house.wiring.platform, Platform)
    day.start()
    assert day._task is None
    await day.stop()
