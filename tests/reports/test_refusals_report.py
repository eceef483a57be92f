"""How often submits were refused, whose, why, and by which quota: counted by the hour, told by whatever is asked."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio

from app.embedded import EmbeddedPostgres
from app.jobs.rooms import Rooms
from app.ledger.refusals import RefusalCounts
from app.problems import InvalidInput, NotFound
from tests.conftest import settings_for
from tests.gateway import ADMIN, Gateway, Person, run_gateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "fal-ai/kling-video/v2.1/master/text-to-video"
BODY = {"prompt": "a boat"}
NOON = datetime(2026, 10, 31, 12, 20, tzinfo=UTC)


@dataclass
class Clock:
    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now


class Refusing:
    """A gateway that puts nothing through, and its report."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        self.gateway = gateway
        self.clock = clock
        self.rooms: Rooms = gateway.app.state.rooms

    async def post(self, who: Person, path: str, body: Any = None, **headers: str) -> httpx.Response:
        headers |= who.headers
        return await self.gateway.client.post(path, json=BODY if body is None else body, headers=headers)

    async def report(self, who: Person | dict[str, str], **query: Any) -> dict[str, Any]:
        headers = who if isinstance(who, dict) else who.headers
        query = {"since": "2026-01-01"} | query
        answer = await self.gateway.client.get("/v1/reports/refusals", params=query, headers=headers)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        assert told["total"] == {"times": sum(line["times"] for line in told["data"])}
        return told

    async def told(self, who: Person, *members: str, **query: Any) -> list[tuple[Any, ...]]:
        """These members of each line."""
        return [tuple(line[member] for member in members) for line in (await self.report(who, **query))["data"]]

    async def blocked(self, role: str = "member", team_id: str | None = None) -> Person:
        """Somebody who may spend nothing."""
        who = await self.gateway.make_person(role, team_id)
        await self.gateway.set_quota(0, scope="user", scope_id=who.user_id)
        return who


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def one_gateway(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Refusing]:
    postgres.create_database("refusals", template)
    clock = Clock()
    settings = settings_for(postgres.dsn("refusals"), TIMEZONE="Asia/Kolkata")
    async with run_gateway(settings, clock=clock, work=False) as gateway:
        yield Refusing(gateway, clock)


@pytest.fixture
def refusing(one_gateway: Refusing) -> Refusing:
    one_gateway.clock.now = NOON
    return one_gateway


async def test_a_refusal_is_counted_once_by_whichever_door_it_came(refusing: Refusing) -> None:
    ann = await refusing.blocked()
    image = {"prompt": "a boat", "image_url": "https://example.com/a.png"}
    target = {"x-fal-target-url": f"https://queue.fal.run/{TEXT}"}
    asked = [
        await refusing.post(ann, "/v1/text-to-video"),
        await refusing.post(ann, "/v1/image-to-video", image),
        await refusing.post(ann, "/v1/text-to-video", Prefer="wait=5"),
        await refusing.post(ann, f"/fal/{TEXT}"),
        await refusing.post(ann, f"/fal/run/{TEXT}"),
        await refusing.post(ann, "/fal/proxy", **target),
    ]
    assert [answer.status_code for answer in asked] == [402] * 6
    assert (await refusing.report(ann))["total"] == {"times": 6}
    assert (await refusing.post(ann, "/v1/text-to-video/estimate")).json()["allowed"] is False
    stranger = Person(ann.user_id, ann.team_id, ann.key_id, "fg_" + "x" * 49)
    assert (await refusing.post(stranger, "/v1/text-to-video")).status_code == 401
    bad = await refusing.post(ann, "/v1/text-to-video/estimate", {})
    assert bad.status_code == 422
    assert await refusing.told(ann, "code", "times", group_by="code") == [("quota-exceeded", 6)]


async def test_each_quota_that_blocks_is_counted(refusing: Refusing) -> None:
    ann = await refusing.gateway.make_person()
    mine = {"scope": "user", "scope_id": ann.user_id}
    dollars = await refusing.gateway.set_quota("2.00", "usd", "month", **mine)
    seconds = await refusing.gateway.set_quota(5, "seconds", "day", **mine)
    assert (await refusing.post(ann, "/v1/text-to-video")).status_code == 202
    assert (await refusing.post(ann, "/v1/text-to-video")).status_code == 402
    members = ("code", "quota_id", "scope", "metric", "window", "times")
    assert sorted(await refusing.told(ann, *members, group_by="code,quota")) == sorted(
        [
            ("quota-exceeded", dollars, "user", "usd", "month", 1),
            ("quota-exceeded", seconds, "user", "seconds", "day", 1),
        ]
    )
    await refusing.gateway.admin("DELETE", f"/v1/quotas/{dollars}")
    assert len(await refusing.told(ann, *members, group_by="code,quota")) == 2


async def test_every_reason_has_its_code(refusing: Refusing) -> None:
    ann = await refusing.gateway.make_person()
    mine = {"scope": "user", "scope_id": ann.user_id}
    key = {"Idempotency-Key": "one"}
    assert (await refusing.post(ann, "/v1/text-to-video", **key)).status_code == 202
    assert (await refusing.post(ann, "/v1/text-to-video", **key)).status_code == 202
    assert (await refusing.post(ann, "/v1/text-to-video", {"prompt": "another"}, **key)).status_code == 422
    for metric, window in (("in_flight", None), ("jobs", "minute")):
        made = await refusing.gateway.set_quota(1, metric, window, **mine)
        assert (await refusing.post(ann, "/v1/text-to-video")).status_code == 429
        await refusing.gateway.admin("DELETE", f"/v1/quotas/{made}")
    for path in ("/v1/text-to-video", f"/fal/{TEXT}"):
        assert (await refusing.post(ann, path, {"prompt": ""})).status_code == 422
    plain = await refusing.gateway.client.post("/v1/text-to-video", content=b"{", headers=ann.headers)
    assert plain.status_code == 415
    async with refusing.gateway.wiring.db.plain() as connection:
        await connection.execute("UPDATE prices SET starts_at = 'infinity'")
        assert (await refusing.post(ann, "/v1/text-to-video")).status_code == 422
        await connection.execute("UPDATE prices SET starts_at = '2026-01-01'")
    lines = await refusing.told(ann, "code", "quota_id", "scope", "times", group_by="code,quota")
    assert {code: times for code, _, _, times in lines} == {
        "idempotency-key-reused": 1,
        "too-many-in-flight": 1,
        "too-many-jobs": 1,
        "invalid-input": 2,
        "not-json": 1,
        "model-unpriced": 1,
    }
    assert {code for code, quota_id, scope, _ in lines if quota_id is None and scope is None} == {
        "idempotency-key-reused", "invalid-input", "not-json", "model-unpriced",
    }  # fmt: skip


async def test_hours_are_utc_and_days_are_those_of_the_timezone(refusing: Refusing) -> None:
    """At half past six in the evening, UTC, a new day begins in Kolkata; an hour belongs to the day it begins in."""
    ann = await refusing.blocked()
    for moment in ("2026-10-31T17:59", "2026-10-31T18:40", "2026-10-31T19:00", "2026-10-31T19:59:59.999"):
        refusing.clock.now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
        await refusing.post(ann, "/v1/text-to-video")
    assert await refusing.told(ann, "hour", "times", group_by="hour") == [
        ("2026-10-31T17:00:00Z", 1),
        ("2026-10-31T18:00:00Z", 1),
        ("2026-10-31T19:00:00Z", 2),
    ]
    assert await refusing.told(ann, "day", "times", group_by="day") == [("2026-10-31", 2), ("2026-11-01", 2)]
    assert (await refusing.report(ann, since="2026-11-01"))["total"] == {"times": 2}
    assert (await refusing.report(ann, until="2026-11-01"))["total"] == {"times": 2}
    nineteen = {"since": "2026-10-31T18:00:00Z", "until": "2026-10-31T19:00:00Z"}
    assert (await refusing.report(ann, **nineteen))["total"] == {"times": 1}
    nothing = await refusing.report(ann, since="2026-12-01")
    assert (nothing["data"], nothing["total"], nothing["timezone"]) == ([], {"times": 0}, "Asia/Kolkata")


async def test_each_role_is_told_of_those_it_sees(refusing: Refusing) -> None:
    gateway = refusing.gateway
    ann, lead = await refusing.blocked(), await refusing.gateway.make_person("lead")
    ben = await refusing.blocked(team_id=lead.team_id)
    finance = await gateway.make_person("finance")
    for who, times in ((ann, 1), (ben, 2)):
        for _ in range(times):
            await refusing.post(who, "/v1/text-to-video")
    seen = {"group_by": "team,user"}
    of_ann, of_ben = (ann.team_id, ann.user_id, 1), (ben.team_id, ben.user_id, 2)
    members = ("team_id", "user_id", "times")
    assert await refusing.told(ann, *members, **seen) == [of_ann]
    assert await refusing.told(ben, *members, **seen) == await refusing.told(lead, *members, **seen) == [of_ben]
    assert {of_ann, of_ben} <= {*await refusing.told(finance, *members, **seen)}
    by_key = await refusing.report(ADMIN, **seen)
    assert by_key["data"] == (await refusing.report(finance, **seen))["data"]
    assert [line["team"] for line in by_key["data"] if line["user_id"] == ben.user_id] == [
        (await gateway.client.get("/v1/me", headers=ben.headers)).json()["team"]["name"]
    ]


async def test_as_csv_it_has_the_same_lines_the_total_last_and_no_formula(refusing: Refusing) -> None:
    team = await refusing.gateway.admin("POST", "/v1/teams", name="=cmd()")
    ann = await refusing.blocked(team_id=team["id"])
    for _ in range(2):
        await refusing.post(ann, "/v1/text-to-video")
    await refusing.post(ann, "/v1/text-to-video", {})
    url = "/v1/reports/refusals?since=2026-01-01&group_by=team,code,quota"
    for more, headers in (("&format=csv", {}), ("", {"Accept": "text/csv"})):
        answer = await refusing.gateway.client.get(url + more, headers=ann.headers | headers)
        assert answer.headers["content-type"].startswith("text/csv")
        header, first, second, total = csv.reader(io.StringIO(answer.text))
        assert header == ["team_id", "team", "code", "quota_id", "scope", "metric", "window", "times"]
        assert first[:3] == [team["id"], "'=cmd()", "quota-exceeded"]
        assert first[4:] == ["user", "usd", "day", "2"]
        assert second == [team["id"], "'=cmd()", "invalid-input", "", "", "", "", "1"]
        assert total == ["total", "", "", "", "", "", "", "3"]
    alone = await refusing.gateway.client.get("/v1/reports/refusals?since=2026-01-01&format=csv", headers=ann.headers)
    assert alone.text == "times\r\n3\r\n"


@pytest.mark.parametrize(
    ("query", "faulty"),
    [
        ("group_by=model", {"group_by"}),
        ("group_by=day,day", {"group_by"}),
        ("group_by=", {"group_by"}),
        ("since=2026-10-02&until=2026-10-01", {"until"}),
        ("since=9999-12-31&until=yesterday", {"since", "until"}),
        ("since=2026-10-01&since=2026-10-01", {"since"}),
        ("format=xml&by=day", {"format", "by"}),
    ],
)
async def test_what_makes_no_sense_is_named(refusing: Refusing, query: str, faulty: set[str]) -> None:
    answer = await refusing.gateway.client.get(f"/v1/reports/refusals?{query}", headers=ADMIN)
    assert answer.status_code == 422, answer.text
    assert {fault["parameter"] for fault in answer.json()["errors"]} == faulty


async def test_a_storm_of_refusals_is_one_row_and_one_sum(refusing: Refusing) -> None:
    ann = await refusing.blocked()
    await asyncio.gather(*(refusing.post(ann, "/v1/text-to-video") for _ in range(40)))
    assert list(refusing.rooms.refusals._times.values()) == [40]
    await refusing.rooms._keep_house(1)
    assert not refusing.rooms.refusals._times
    async with refusing.gateway.wiring.db.plain() as plain:
        assert await plain.fetchval("SELECT times FROM refusals WHERE user_id = $1", ann.user_id[5:]) == 40
    assert (await refusing.report(ann))["total"] == {"times": 40}


async def test_a_flush_that_fails_is_made_up_for_by_the_next(
    refusing: Refusing, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await refusing.blocked()
    await refusing.post(ann, "/v1/text-to-video")
    refusals, db = refusing.rooms.refusals, refusing.gateway.wiring.db
    with monkeypatch.context() as patch:
        patch.setattr("app.ledger.refusals._WRITE", "SELECT nothing")
        with pytest.raises(asyncpg.PostgresError):
            await refusals.flush(db)
    await refusing.post(ann, "/v1/text-to-video")
    assert (await refusing.report(ann))["total"] == {"times": 2}


async def test_replicas_add_to_the_same_rows_at_once(refusing: Refusing) -> None:
    people = [await refusing.gateway.make_person() for _ in range(4)]
    replicas = [RefusalCounts(clock) for clock in [refusing.clock] * 6]
    db = refusing.gateway.wiring.db
    for replica in replicas:
        for who in people if replica is replicas[0] else reversed(people):
            for problem in (NotFound("x"), InvalidInput([])):
                replica.count(problem, team_id=_uuid(who.team_id), user_id=_uuid(who.user_id))
    await asyncio.gather(*(replica.flush(db) for replica in replicas))
    for who in people:
        assert await refusing.told(who, "code", "times", group_by="code") == [("invalid-input", 6), ("not-found", 6)]


async def test_a_gateway_that_stops_writes_what_it_has_counted(
    postgres: EmbeddedPostgres, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.rooms._WRITE_WITHIN_SECONDS", 60)
    postgres.create_database("refusals_at_the_end", template)
    settings = settings_for(postgres.dsn("refusals_at_the_end"))
    async with run_gateway(settings, work=False) as gateway:
        ann = await gateway.make_person()
        assert (await gateway.submit(ann, "")).status_code == 422
    async with run_gateway(settings, work=False) as gateway:
        answer = await gateway.client.get(
            "/v1/reports/refusals", params={"since": str(datetime.now(UTC).date() - timedelta(days=1))}, headers=ADMIN
        )
        assert answer.json()["total"] == {"times": 1}


def _uuid(shown: str) -> UUID:
    return UUID(shown.partition("_")[2])
