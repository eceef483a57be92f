"""Closing months and correcting charges over HTTP: by whom, what it answers, what it refuses, what it leaves behind."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from tests.gateway import ADMIN, Gateway, Person

from .world import NOBODYS, faults, nothing_written, refusal


@dataclass
class Books:
    """A gateway with a clock, its finance, and its audit log."""

    gateway: Gateway
    clock: list[datetime]
    ann: Person
    finance: Person

    def begin(self, month: str) -> None:
        """It is the fifth of this month, at noon."""
        year, number = month.split("-")
        self.clock[0] = datetime(int(year), int(number), 5, 12, tzinfo=UTC)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """As finance."""
        return await self.gateway.client.request(method, path, json=body, headers=self.finance.headers | headers)

    async def reopen(self, month: str, note: Any = "a bill came late") -> httpx.Response:
        path = f"/v1/months/{month}/reopen"
        return await self.gateway.client.post(path, json={"note": note}, headers=ADMIN)

    async def charged_job(self) -> str:
        """A job that ended at 1.40."""
        job_id = str((await self.gateway.submit(self.ann)).json()["id"])
        async with self.gateway.wiring.db.plain() as plain:
            await plain.execute("UPDATE jobs SET status = 'unconfirmed' WHERE id = $1", job_id.removeprefix("job_"))
        await self.gateway.admin("POST", f"/v1/jobs/{job_id}/resolve", outcome="charge", note="seen on the bill")
        return job_id

    async def logged(self, action: str, object_id: str) -> list[dict[str, Any]]:
        path = f"/v1/audit-log?action={action}&object_id={object_id}"
        answer = await self.gateway.client.get(path, headers=ADMIN)
        return list(answer.json()["data"])


@pytest.fixture
async def books(settings: Settings) -> AsyncIterator[Books]:
    """Of each test's own: what is closed by one would be closed for the others."""
    clock = [datetime(2026, 2, 5, 12, tzinfo=UTC)]
    app = create_app(settings, clock=lambda: clock[0], work=False)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
    async with app.router.lifespan_context(app), client:
        running = Gateway(app, "http://gateway", client)
        yield Books(running, clock, await running.make_person(), await running.make_person("finance"))


async def test_finance_closes_a_month_and_an_admin_reopens_it(books: Books) -> None:
    books.begin("2026-03")
    await books.charged_job()
    under_way = (await books.gateway.submit(books.ann)).json()["id"]
    refusal(await books.call("POST", "/v1/months/2026-03/close"), 409, "month-not-over")
    books.begin("2026-04")
    answer = await books.call("POST", "/v1/months/2026-03/close")
    assert answer.status_code == 200, answer.text
    (closed,) = answer.json()["closed"]
    assert answer.json() == {
        "closed": [closed], "held_usd": "1.40", "held_jobs": 1, "held_job_ids": [under_way],
    }  # fmt: skip
    by = f"{books.finance.user_id}/{books.finance.key_id}"
    assert closed == {
        "id": closed["id"], "month": "2026-03", "starts_at": "2026-03-01T00:00:00Z", "ends_at": "2026-04-01T00:00:00Z",
        "charged_usd": "1.40", "seconds": 5, "jobs": 2, "succeeded": 0, "failed": 1, "canceled": 0, "held_usd": "1.40",
        "held_jobs": 1, "closed_at": "2026-04-05T12:00:00Z", "closed_by": by, "reopened_at": None, "reopened_by": None,
        "reopen_note": None,
    }  # fmt: skip
    again = refusal(await books.call("POST", "/v1/months/2026-03/close"), 409, "month-closed")
    assert again["month"] == "2026-03"
    (line,) = await books.logged("month.closed", "2026-03")
    assert (line["actor"], line["after"]["charged_usd"]) == (by, "1.40")

    await books.gateway.client.post(f"/v1/jobs/{under_way}/cancel", headers=books.ann.headers)
    refusal(await books.call("POST", "/v1/months/2026-03/reopen", {"note": "x"}), 403, "role-forbidden")
    reopened = (await books.reopen("2026-03")).json()
    assert reopened == closed | {
        "reopened_at": "2026-04-05T12:00:00Z", "reopened_by": "ADMIN_KEY", "reopen_note": "a bill came late",
    }  # fmt: skip
    refusal(await books.reopen("2026-03"), 409, "month-not-closed")
    (line,) = await books.logged("month.reopened", "2026-03")
    assert (line["actor"], line["after"]) == ("ADMIN_KEY", {"note": "a bill came late"})

    books.clock[0] += timedelta(seconds=1)
    once_more = (await books.call("POST", "/v1/months/2026-03/close")).json()["closed"]
    first = (await books.call("GET", "/v1/months?limit=1")).json()
    assert first["data"] == once_more
    rest = (await books.call("GET", f"/v1/months?limit=1&cursor={first['next_cursor']}")).json()
    assert rest == {"data": [reopened], "next_cursor": None}


async def test_the_report_of_a_closed_month_stays_what_was_closed(books: Books) -> None:
    books.begin("2026-05")
    job_id = await books.charged_job()
    under_way = (await books.gateway.submit(books.ann)).json()["id"]
    books.begin("2026-06")
    closed = (await books.call("POST", "/v1/months/2026-05/close")).json()["closed"][-1]
    path = "/v1/reports/spend?since=2026-05-01&until=2026-06-01"
    told = []
    for act in range(3):
        told.append((await books.call("GET", path)).json()["total"])
        if act == 0:
            await books.gateway.client.post(f"/v1/jobs/{under_way}/cancel", headers=books.ann.headers)
        else:
            await books.call("POST", f"/v1/jobs/{job_id}/adjustments", {"amount_usd": "2.00", "note": "x"})
    names = ("charged_usd", "seconds", "jobs", "succeeded", "failed", "canceled")
    assert [{name: each[name] for name in names} for each in told] == [{name: closed[name] for name in names}] * 3
    assert [each["held_usd"] for each in told] == ["1.40", "0.00", "0.00"]


async def test_only_the_newest_is_reopened(books: Books) -> None:
    books.begin("2026-06")
    await books.charged_job()
    books.begin("2026-08")
    closed = (await books.call("POST", "/v1/months/2026-07/close")).json()["closed"]
    assert [one["month"] for one in closed][-2:] == ["2026-06", "2026-07"]
    assert refusal(await books.reopen("2026-06"), 409, "later-month-closed")["newest"] == "2026-07"
    listed = (await books.call("GET", "/v1/months?limit=2")).json()["data"]
    assert listed == list(reversed(closed))[:2]


async def test_what_is_no_month_is_said_to_be_none(books: Books) -> None:
    outside = ("9999-13", "9999-12", "0000-01", "1969-12")
    async with nothing_written(books.gateway):
        for month in ("2026-13", "2026-00", *outside, "2026-1", "2026-10-01", "x", "\u0662026-10"):
            assert list(faults(await books.call("POST", f"/v1/months/{month}/close"))) == ["month"], month
            assert list(faults(await books.reopen(month))) == ["month"], month


async def test_a_month_to_come_or_without_entries_is_not_closed(books: Books) -> None:
    async with nothing_written(books.gateway):
        refusal(await books.call("POST", "/v1/months/9998-12/close"), 409, "month-not-over")
        refusal(await books.reopen("9998-12"), 409, "month-not-closed")
        for note in (None, "", "x" * 1001, 1, "a\0b"):
            assert list(faults(await books.reopen("2026-03", note))) == ["/note"]
        assert list(faults(await books.call("GET", "/v1/months?cursor=x"))) == ["cursor"]
        assert list(faults(await books.call("GET", "/v1/months?status=closed"))) == ["status"]


async def test_finance_corrects_a_charge_with_a_note(books: Books) -> None:
    books.begin("2026-10")
    job_id = await books.charged_job()
    books.begin("2026-11")
    await books.call("POST", "/v1/months/2026-10/close")
    before = await books.gateway.job(books.ann, job_id)
    path = f"/v1/jobs/{job_id}/adjustments"
    made = await books.call("POST", path, {"amount_usd": "-0.40", "note": "fal gave it back"})
    assert made.status_code == 201, made.text
    entry = made.json()
    assert entry == entry | {
        "job_id": job_id, "kind": "adjustment", "amount_usd": "-0.40", "seconds": 0, "note": "fal gave it back",
        "by": f"{books.finance.user_id}/{books.finance.key_id}", "created_at": "2026-11-05T12:00:00Z",
    }  # fmt: skip
    after = await books.gateway.job(books.ann, job_id)
    assert after == before | {"charged_usd": "1.00", "version": before["version"] + 1}
    listed = (await books.call("GET", f"/v1/jobs/{job_id}/entries")).json()["data"]
    assert [one["id"] for one in listed if one["kind"] == "adjustment"] == [entry["id"]]
    (line,) = await books.logged("job.adjusted", job_id)
    assert (line["before"], line["after"]) == (
        {"charged_usd": "1.40"},
        {"charged_usd": "1.00", "entry_id": entry["id"], "note": "fal gave it back"},
    )
    async with nothing_written(books.gateway):
        body = {"amount_usd": "-0.40", "note": "x", "month": "2026-10"}
        closed = refusal(await books.call("POST", path, body), 409, "month-closed")
    assert closed["month"] == "2026-10"
    assert "leave `month` out" in closed["detail"]


async def test_an_adjustment_repeated_under_its_key_is_made_once(books: Books) -> None:
    path, body = f"/v1/jobs/{await books.charged_job()}/adjustments", {"amount_usd": "0.60", "note": "a second look"}
    key = {"Idempotency-Key": "2026-11/7"}
    first = await books.call("POST", path, body, **key)
    async with nothing_written(books.gateway):
        again = await books.call("POST", path, body, **key)
        for other in ({"amount_usd": "0.61"}, {"note": "y"}, {"seconds": 1}, {"month": "2026-10"}):
            refusal(await books.call("POST", path, body | other, **key), 422, "idempotency-key-reused")
        assert list(faults(await books.call("POST", path, body, **{"Idempotency-Key": ""}))) == ["Idempotency-Key"]
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"


async def test_a_key_of_an_adjustment_is_its_senders_and_shown_to_nobody(books: Books) -> None:
    path, body = f"/v1/jobs/{await books.charged_job()}/adjustments", {"amount_usd": "0.60", "note": "a second look"}
    key = {"Idempotency-Key": "canary-of-finance"}
    first = await books.call("POST", path, body, **key)
    another = await books.gateway.client.post(path, json=body, headers=ADMIN | key)
    assert (first.status_code, another.status_code) == (201, 201)
    entries = await books.gateway.client.get(path.replace("adjustments", "entries"), headers=books.ann.headers)
    assert len({entry["source"] for entry in entries.json()["data"] if entry["kind"] == "adjustment"}) == 2
    assert "canary" not in entries.text


async def test_no_wrong_adjustment_is_booked(books: Books) -> None:
    job_id = await books.charged_job()
    under_way = (await books.gateway.submit(books.ann)).json()["id"]
    path, body = f"/v1/jobs/{job_id}/adjustments", {"amount_usd": "0.10", "note": "x"}
    wrong: dict[str, list[Any]] = {
        "/amount_usd": [None, 0, "0.00", 0.5, "-1.41", "1000000.01", "1e3", "NaN", "", True, "0.0000000001"],
        "/seconds": [None, -6, 1.5, "1000001", "x"],
        "/note": [None, "", "x" * 1001, "a\0b", 1],
        "/month": ["2027-01", "2026-13", "9999-13", 202611, ""],
        "/source": ["x"],
    }
    async with nothing_written(books.gateway):
        for pointer, values in wrong.items():
            for value in values:
                answer = await books.call("POST", path, body | {pointer[1:]: value})
                assert list(faults(answer)) == [pointer], (pointer, value)
        refusal(await books.call("POST", f"/v1/jobs/{under_way}/adjustments", body), 409, "job-not-ended")
        for nobodys in (f"job_{NOBODYS}", "x"):
            refusal(await books.call("POST", f"/v1/jobs/{nobodys}/adjustments", body), 404, "not-found")
