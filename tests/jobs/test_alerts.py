"""Alerts: a share of a quota is told of once a window, to whom it concerns, and nobody else reads where to."""

import asyncio
import json
from typing import Any

import pytest
from standardwebhooks import Webhook

from app.jobs.alerts import Alerts
from tests.conftest import settings_for
from tests.deliveries.receiver import Receiver, receiving
from tests.gateway import ADMIN, Person
from tests.jobs.hand import Hand, by_hand, rest


class Stage:
    """A team with a lead whose URL hears, and a member who spends; the loops are turned by hand."""

    def __init__(self, hand: Hand, receiver: Receiver, lead: Person, member: Person) -> None:
        self.hand, self.receiver, self.lead, self.member = hand, receiver, lead, member

    async def patch(self, team_id: str, who: dict[str, str], **body: Any) -> tuple[int, dict[str, Any]]:
        answer = await self.hand.gateway.client.patch(f"/v1/teams/{team_id}", json=body, headers=who)
        return answer.status_code, answer.json()

    async def hear(self, **more: Any) -> None:
        status, told = await self.patch(self.lead.team_id, self.lead.headers, alert_url=self.receiver.url, **more)
        assert status == 200, told

    async def buy(self, count: int = 1, **fields: Any) -> None:
        for _ in range(count):
            assert (await self.hand.gateway.submit(self.member, **fields)).status_code == 202

    async def tell(self) -> list[dict[str, Any]]:
        """One turn of the alerts and of the sender; what the receiver was told, as JSON."""
        self.receiver.received.clear()
        await self.hand.rooms.alerts.tell()
        while await self.hand.rooms.sender._turn(50):
            await rest(self.hand.rooms.sender.loop)
        return [json.loads(one.body) for one in self.receiver.received]


@pytest.fixture
async def stage(database_url: str) -> Any:
    settings = settings_for(database_url, WEBHOOK_ALLOW_PRIVATE="true")
    async with by_hand(settings) as hand, receiving() as receiver:
        lead = await hand.gateway.make_person("lead")
        yield Stage(hand, receiver, lead, await hand.gateway.make_person(team_id=lead.team_id))


async def test_each_share_is_told_once_a_window_at_the_highest_that_was_reached(stage: Stage) -> None:
    quota = await stage.hand.gateway.set_quota("14.00", scope="team", scope_id=stage.lead.team_id)
    await stage.hear()
    await stage.buy(4)
    assert await stage.tell() == []
    await stage.buy()
    (told,) = await stage.tell()
    sent = stage.receiver.received[0]
    path = "/v1/me/webhook-secret"
    secret = (await stage.hand.gateway.client.get(path, headers=stage.lead.headers)).json()["secret"]
    assert Webhook(secret).verify(sent.body, sent.headers) == told
    starts_at, ends_at = told["data"].pop("window_starts_at"), told["data"].pop("window_ends_at")
    assert starts_at < told["timestamp"] < ends_at
    assert told == {
        "type": "quota.alert",
        "timestamp": told["timestamp"],
        "data": {
            "quota_id": quota, "scope": "team", "scope_id": stage.lead.team_id, "metric": "usd", "window": "day",
            "maximum": "14.00", "used": "0.00", "held": "7.00", "remaining": "7.00", "percent": 50,
            "team_id": stage.lead.team_id,
        },
    }  # fmt: skip
    assert await stage.tell() == []
    await stage.buy(5)  # past 80 to 100 in one step
    assert [one["data"]["percent"] for one in await stage.tell()] == [100]
    assert await stage.tell() == []
    patch = f"/v1/quotas/{quota}"
    changed = await stage.hand.gateway.admin("PATCH", patch, maximum="28.00", alert_percents=[90, 60])
    assert (changed["maximum"], changed["alert_percents"]) == ("28.00", [60, 90])
    await stage.buy(9)
    assert await stage.tell() == [], "once a window, whatever becomes of the maximum"


async def test_the_next_window_is_told_of_again_and_one_that_has_ended_is_not(stage: Stage) -> None:
    await stage.hand.gateway.set_quota("2.80", window="hour", scope="user", scope_id=stage.member.user_id)
    await stage.hear()
    await stage.buy()
    stage.hand.clock.move(hours=2)
    assert await stage.tell() == []
    await stage.buy()
    assert [one["data"]["percent"] for one in await stage.tell()] == [50]
    stage.hand.clock.move(hours=1)
    await stage.buy(2)
    assert [one["data"]["percent"] for one in await stage.tell()] == [100]


async def test_whoever_says_where_to_later_hears_where_things_stand(stage: Stage) -> None:
    await stage.hand.gateway.set_quota("1.40", scope="team")
    await stage.buy()
    assert await stage.tell() == []
    assert await stage.hand.sql("SELECT * FROM quota_alerts") == []
    await stage.hear()
    assert [one["data"]["percent"] for one in await stage.tell()] == [100]


async def test_each_scope_is_told_to_the_team_that_it_concerns(stage: Stage) -> None:
    gateway = stage.hand.gateway
    await stage.hear()
    other = await gateway.make_person("lead")
    assert (await stage.patch(other.team_id, other.headers, alert_url=stage.receiver.url))[0] == 200
    expected: set[tuple[str, str | None, str]] = {
        ("organization", None, team) for team in (stage.lead.team_id, other.team_id)
    }
    await gateway.set_quota("1.40", window="week")
    for scope, scope_id in (("team", stage.lead.team_id), ("user", stage.member.user_id),
                            ("key", stage.member.key_id), ("end_user", "vera/2")):  # fmt: skip
        await gateway.set_quota(1, "jobs", "lifetime", scope=scope)
        expected.add((scope, scope_id, stage.lead.team_id))
    await gateway.set_quota(1, "jobs", "minute", scope="user")
    await gateway.set_quota(1, "in_flight", None, scope="user")
    await gateway.set_quota(1, "jobs", "month", scope="user", alert_percents=[])
    await stage.buy(end_user="vera/2")
    told = [one["data"] for one in await stage.tell()]
    assert {(one["scope"], one["scope_id"], one["team_id"]) for one in told} == expected
    assert len(told) == len(expected)


async def test_of_a_window_of_the_organizations_every_team_hears_however_many_there_are(stage: Stage) -> None:
    for window in ("week", "month"):
        await stage.hand.gateway.set_quota("1.40", window=window)
    await stage.hand.sql(
        "INSERT INTO teams (id, name, created_at, alert_url, alert_shape, alert_user_id)"
        " SELECT gen_random_uuid(), 'of many ' || n, now(), 'https://hooks.example.com/x', 'slack', u.id"
        " FROM generate_series(1, 250) n, users u WHERE u.id = $1",
        stage.lead.user_id[5:],
    )
    await stage.buy()
    assert await stage.hand.rooms.alerts.tell() == 500
    heard = await stage.hand.sql("SELECT count(*) AS n, count(DISTINCT team_id) AS teams FROM deliveries")
    assert heard == [{"n": 500, "teams": 250}]
    assert await stage.hand.rooms.alerts.tell() == 0


async def test_slack_reads_one_sentence_in_which_no_name_can_call_anybody(stage: Stage) -> None:
    team = await stage.hand.gateway.admin("PATCH", f"/v1/teams/{stage.lead.team_id}", name="<!channel> & Co")
    await stage.hand.gateway.set_quota("2.80", scope="team", scope_id=team["id"])
    await stage.hear(alert_shape="slack")
    await stage.buy()
    (told,) = await stage.tell()
    text = told.pop("text")
    assert told == {}
    assert text.startswith(
        "Team &lt;!channel&gt; &amp; Co has reached 50 % of 2.80 USD per day: 0.00 used, 1.40 held, 1.40 left until 20"
    )
    assert text.endswith(" 00:00 UTC.")
    assert not {name for name in stage.receiver.received[0].headers if name.startswith("webhook-")}


async def test_forgetting_the_job_that_an_alert_names_leaves_the_alert(stage: Stage) -> None:
    await stage.hand.gateway.set_quota("1.40", scope="team")
    await stage.hear()
    answer = await stage.hand.gateway.submit(stage.member, webhook_url=stage.receiver.url)
    job, headers = answer.json()["id"], stage.member.headers
    await stage.hand.rooms.alerts.tell()
    client = stage.hand.gateway.client
    assert (await client.post(f"/v1/jobs/{job}/cancel", headers=headers)).status_code == 200
    assert (await client.delete(f"/v1/jobs/{job}/payload", headers=headers)).status_code == 204
    rows = await stage.hand.sql("SELECT type, body <> '' AS kept, status FROM deliveries ORDER BY type")
    told = [(row["type"], row["kept"], row["status"]) for row in rows]
    assert told == [("job.canceled", False, "failed"), ("quota.alert", True, "pending")]
    of_job = (await client.get(f"/v1/deliveries?job_id={job}", headers=stage.lead.headers)).json()["data"]
    assert [one["type"] for one in of_job] == ["job.canceled"]
    of_team = (await client.get("/v1/deliveries", headers=stage.lead.headers)).json()["data"]
    (alert,) = [one for one in of_team if one["type"] == "quota.alert"]
    assert alert["url"] == f"http://127.0.0.1:{stage.receiver.port}/…"
    assert alert["shape"] == "standard"
    theirs = (await client.get("/v1/deliveries", headers=headers)).json()["data"]
    assert {one["type"] for one in theirs} == {"job.canceled"}


async def test_replicas_that_look_at_once_tell_once(stage: Stage) -> None:
    await stage.hand.gateway.set_quota("2.80", scope="team")
    await stage.hand.gateway.set_quota("2.80", scope="user")
    await stage.hear()
    await stage.buy()
    replicas = [Alerts(stage.hand.gateway.wiring, wake_sender=lambda: None) for _ in range(6)]
    for _ in range(2):
        await asyncio.gather(*(replica.tell() for replica in replicas))
    assert len(await stage.hand.sql("SELECT FROM deliveries")) == 2
    marks = await stage.hand.sql("SELECT a.percent FROM quota_alerts a JOIN deliveries d ON d.id = a.delivery_id")
    assert [mark["percent"] for mark in marks] == [50, 50]


async def test_the_url_is_whole_for_its_leads_and_admins_alone(stage: Stage) -> None:
    gateway, secret = stage.hand.gateway, "https://hooks.slack.com/services/T0/B0/very-secret"
    status, team = await stage.patch(stage.lead.team_id, stage.lead.headers, alert_url=secret, alert_shape="slack")
    assert (status, team["alert_url"], team["alert_user_id"]) == (200, secret, stage.lead.user_id)
    finance, admin = await gateway.make_person("finance"), await gateway.make_person("admin")
    whole = {who.user_id: "very-secret" in (await gateway.client.get(path, headers=who.headers)).text
             for who, path in ((stage.lead, "/v1/me"), (stage.member, "/v1/me"), (finance, "/v1/teams?limit=100"),
                               (admin, "/v1/teams?limit=100"))}  # fmt: skip
    assert whole == {
        stage.lead.user_id: True, stage.member.user_id: False, finance.user_id: False, admin.user_id: True
    }  # fmt: skip
    seen = (await gateway.client.get("/v1/me", headers=stage.member.headers)).json()["team"]
    assert seen["alert_url"] == "https://hooks.slack.com/…"
    assert "very-secret" not in (await gateway.client.get("/v1/audit-log?limit=100", headers=ADMIN)).text
    status, team = await stage.patch(stage.lead.team_id, stage.lead.headers, alert_url=None)
    assert (status, team["alert_url"], team["alert_shape"], team["alert_user_id"]) == (200, None, None, None)


async def test_alerts_that_could_not_be_sent_are_refused(stage: Stage) -> None:
    team_id, lead, url = stage.lead.team_id, stage.lead.headers, stage.receiver.url
    stranger = await stage.hand.gateway.make_person("lead")
    for who, body, pointer in (
        (lead, {"alert_url": "ftp://x/"}, "/alert_url"),
        (lead, {"alert_url": "https://user:pw@x/"}, "/alert_url"),
        (lead, {"alert_shape": "slack"}, "/alert_url"),
        (lead, {"alert_url": None, "alert_shape": "slack"}, "/alert_url"),
        (lead, {"alert_url": url, "alert_shape": "teams"}, "/alert_shape"),
        (lead, {"alert_url": url, "alert_user_id": stranger.user_id}, "/alert_user_id"),
        (ADMIN, {"alert_url": url}, "/alert_user_id"),
    ):
        status, told = await stage.patch(team_id, who, **body)
        assert (status, [fault["pointer"] for fault in told["errors"]]) == (422, [pointer]), body
    for team, body in ((team_id, {"name": "x"}), (team_id, {}), (stranger.team_id, {"alert_url": url})):
        assert (await stage.patch(team, lead, **body))[0] == 403
    assert (await stage.patch(team_id, stage.member.headers, alert_url=url))[0] == 403
    assert (await stage.patch(team_id, ADMIN, alert_url=url, alert_user_id=stage.member.user_id))[0] == 200


async def test_shares_are_up_to_five_whole_numbers_without_a_repeat(stage: Stage) -> None:
    quota = await stage.hand.gateway.set_quota(5, scope="team", alert_percents=[100, 7])
    client = stage.hand.gateway.client
    for percents in ([0], [101], [50, 50], [1, 2, 3, 4, 5, 6], ["50"], [1.5], None, "50", [True]):
        answer = await client.patch(f"/v1/quotas/{quota}", json={"alert_percents": percents}, headers=ADMIN)
        assert answer.status_code == 422, percents
        assert "validation" not in answer.json()["errors"][0]["detail"]
    assert (await client.patch(f"/v1/quotas/{quota}", json={}, headers=ADMIN)).status_code == 422
    assert (await stage.hand.gateway.admin("PATCH", f"/v1/quotas/{quota}", maximum=6))["alert_percents"] == [7, 100]
    off = await stage.hand.gateway.admin("PATCH", f"/v1/quotas/{quota}", alert_percents=[])
    assert (off["alert_percents"], off["maximum"]) == ([], "6.00")
