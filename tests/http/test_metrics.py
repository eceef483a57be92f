"""/metrics: the list of Build 10, alike at any process where jobs and money are told, and nobody's name in it."""

import asyncio
import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.fal import Balance, Trouble
from app.jobs.at_fal import balance
from app.jobs.ends.ended import fold_ended
from app.ledger.audit import audit
from app.reports.fal_bill.runs import begin_daily_run
from app.settings import Settings
from tests.gateway import Gateway
from tests.jobs.hand import Hand, by_hand, failed

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "app" / "web" / "prometheus-rules.yml"
LIST = {
    "falgate_jobs": {"status"},
    "falgate_jobs_ended_total": {"model", "status"},
    "falgate_oldest_queued_seconds": set(),
    "falgate_oldest_due_check_seconds": set(),
    "falgate_unconfirmed_jobs": set(),
    "falgate_fal_degraded": set(),
    "falgate_fal_requests_total": {"call", "outcome"},
    "falgate_fal_balance_usd": set(),
    "falgate_deliveries_pending": set(),
    "falgate_output_tries_total": {"outcome"},
    "falgate_downloads_total": {"source", "outcome"},
    "falgate_held_usd": set(),
    "falgate_charged_usd_total": set(),
    "falgate_http_request_seconds_bucket": {"method", "route", "status", "le"},
}
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")


async def _figures(gateway: Gateway) -> dict[str, float]:
    answer = await gateway.client.get("/metrics")
    assert answer.status_code == 200, answer.text
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}


async def _told(hand: Hand) -> dict[str, float]:
    return await _figures(hand.gateway)


def _names(figures: dict[str, float]) -> dict[str, set[str]]:
    names: dict[str, set[str]] = {}
    for sample in figures:
        name, _, labels = sample.partition("{")
        names.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return names


@pytest.fixture
async def hand(settings: Settings) -> Any:
    async with by_hand(settings) as made:
        yield made


async def _end(hand: Hand, result: Any = None) -> str:
    from tests.jobs.test_table import DONE  # noqa: PLC0415

    job_id = await hand.at_fal("running")
    hand.fal.answer("status", DONE)
    if result is not None:
        hand.fal.answer("result", result)
    await hand.check()
    return job_id


async def test_every_metric_of_the_list_is_there_with_its_labels_and_no_other(hand: Hand) -> None:
    await _end(hand)
    await hand.submit()
    await hand.sql("UPDATE upstream SET balance_usd = 12.345678901, balance_read_at = now()")
    await _told(hand)
    names = _names(await _told(hand))
    assert {name: names.get(name) for name in LIST} == LIST
    others = {name.removesuffix("_created") for name in names if name.startswith("falgate_")} - set(LIST)
    assert {name for name in others if re.search(r"user|team|key|prompt", " ".join(names.get(name, ())))} == set()


async def test_the_balance_is_absent_while_it_is_unknown_or_old(hand: Hand) -> None:
    assert "falgate_fal_balance_usd" not in await _told(hand)
    await hand.sql("UPDATE upstream SET balance_usd = 12.5, balance_read_at = now()")
    assert (await _told(hand))["falgate_fal_balance_usd"] == 12.5
    await hand.sql("UPDATE upstream SET balance_read_at = now() - interval '6 minutes'")
    assert "falgate_fal_balance_usd" not in await _told(hand)


async def test_figures_of_jobs_and_money_agree_with_the_rows_at_any_process(hand: Hand) -> None:
    for result in (None, None, failed(422, None), failed(500)):
        await _end(hand, result)
    queued = await hand.submit()
    await hand.sql("UPDATE jobs SET queued_at = now() - interval '90 s' WHERE id = $1", queued[4:])
    late = await hand.submit()
    await hand.send()
    await hand.sql(
        "UPDATE jobs SET status = 'running', next_check_at = now() - interval '30 s' WHERE id = $1", late[4:]
    )
    lost = await hand.submit()
    await hand.sql("UPDATE jobs SET status = 'unconfirmed', next_check_at = NULL WHERE id = $1", lost[4:])
    await hand.sql("UPDATE jobs SET status = 'queued', next_check_at = now() WHERE id = $1", queued[4:])
    figures = await _told(hand)
    model = "kling-2.1-master"
    assert figures[f'falgate_jobs_ended_total{{model="{model}",status="succeeded"}}'] == 2
    assert figures[f'falgate_jobs_ended_total{{model="{model}",status="failed"}}'] == 2
    assert figures['falgate_jobs{status="queued"}'] == 1
    assert figures['falgate_jobs{status="running"}'] == 1
    assert figures["falgate_unconfirmed_jobs"] == figures['falgate_jobs{status="unconfirmed"}'] == 1
    assert 89 < figures["falgate_oldest_queued_seconds"] < 120
    assert 29 < figures["falgate_oldest_due_check_seconds"] < 60
    assert figures["falgate_held_usd"] == pytest.approx(4.2)
    assert figures["falgate_charged_usd_total"] == pytest.approx(2.8)
    assert figures["falgate_deliveries_pending"] == 0
    async with by_hand(hand.gateway.wiring.settings, shared=True) as other:
        shared = {name for name in figures if re.match(r"falgate_(jobs|unconf|held|charged|deliv|fal_degraded)", name)}
        told = await _told(other)
        assert {name: told[name] for name in shared} == {name: figures[name] for name in shared}


async def test_a_job_that_waits_to_be_sent_is_no_late_check(hand: Hand) -> None:
    await hand.submit()
    await hand.sql("UPDATE jobs SET next_check_at = now() - interval '1 hour'")
    assert (await _told(hand))["falgate_oldest_due_check_seconds"] == 0


async def test_ended_jobs_are_counted_exactly_while_they_are_folded(hand: Hand) -> None:
    """Folded once or often, by one replica or two at once, before and after later ends."""
    db, now = hand.gateway.wiring.db, hand.gateway.wiring.clock()
    name = 'falgate_jobs_ended_total{model="kling-2.1-master",status="succeeded"}'
    ends = 0
    for hours in (3, 2, 1, 0):
        for _ in range(2):
            job_id = await _end(hand)
            await hand.sql(
                "UPDATE jobs SET finished_at = $2 WHERE id = $1", job_id[4:], now - timedelta(hours=hours, minutes=5)
            )
            ends += 1
        assert (await _told(hand))[name] == ends
        await asyncio.gather(*(fold_ended(db, now=now - timedelta(hours=hours - 1)) for _ in range(3)))
        assert (await _told(hand))[name] == ends
    folded = await hand.sql("SELECT sum(jobs) AS jobs FROM ended_jobs")
    assert folded[0]["jobs"] == ends
    await hand.sql("UPDATE jobs SET finished_at = now() WHERE finished_at IS NOT NULL")  # books tell days apart


async def test_degraded_is_told_and_ready_stays_up(hand: Hand) -> None:
    assert (await _told(hand))["falgate_fal_degraded"] == 0
    await hand.sql("UPDATE upstream SET degraded_since = now(), reason = 'broken', failures = 1, probe_after = now()")
    assert (await _told(hand))["falgate_fal_degraded"] == 1
    assert (await hand.gateway.client.get("/health/ready")).status_code == 200
    assert (await hand.gateway.submit(hand.person)).status_code == 202


async def test_requests_are_timed_by_their_template_and_what_waits_is_left_out(hand: Hand) -> None:
    client, person = hand.gateway.client, hand.person
    job_id = await hand.submit()
    await client.get(f"/v1/jobs/{job_id}", headers=person.headers)
    await hand.cancel(job_id)
    await client.get(f"/v1/jobs/{job_id}", headers=person.headers | {"Prefer": "wait=1"})
    await client.post("/v1/text-to-video", json={"prompt": "x"}, headers=person.headers | {"Prefer": "wait=1"})
    await client.get("/v1/jobs/job_0", headers=person.headers)
    await client.get("/secret-path/of-mine")
    await client.request("BREW", "/v1/me")
    text = (await client.get("/metrics")).text
    found = {
        (method, route, status): float(count)
        for method, route, status, count in re.findall(
            r'falgate_http_request_seconds_count\{method="(.*?)",route="(.*?)",status="(.*?)"\} (\S+)', text
        )
    }
    assert found["GET", "/v1/jobs/{id}", "2xx"] == 1
    assert found["GET", "/v1/jobs/{id}", "4xx"] == 1
    assert found["POST", "/v1/text-to-video", "2xx"] == 1
    assert found["GET", "none", "4xx"] == 1
    assert {method for method, _, _ in found} <= {"GET", "POST", "OTHER"}
    assert ("OTHER", "/v1/me", "4xx") in found
    assert "secret-path" not in text
    assert job_id not in text
    assert "BREW" not in text


# The balance


class _Platform:
    reads_balance = True
    is_alone = True

    def __init__(self, hand: Hand, *answers: Balance | Trouble) -> None:
        self.pool = hand.gateway.wiring.db._engine.pool
        self.answers = list(answers)
        self.asked = 0

    async def balance(self) -> Balance | Trouble:
        self.asked += 1
        assert not self.is_alone or self.pool.checkedout() == 0, "no connection is held while fal is asked"  # type: ignore[attr-defined]
        return self.answers.pop(0)

    async def aclose(self) -> None:
        """Nothing is open."""


async def _watch(hand: Hand, *answers: Balance | Trouble, replicas: int = 1) -> _Platform:
    """A minute later: every replica's turn, to its end."""
    platform = _Platform(hand, *answers)
    platform.is_alone = replicas == 1
    object.__setattr__(hand.gateway.wiring, "platform", platform)
    await hand.sql("UPDATE upstream SET balance_read_at = balance_read_at - interval '61 s'")
    watches = [balance.BalanceWatch(hand.gateway.wiring) for _ in range(replicas)]
    await asyncio.gather(*(watch._turn(1) for watch in watches))
    for watch in watches:
        await asyncio.gather(*watch.loop._working)
    return platform


async def test_one_replica_a_minute_reads_the_balance(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(balance, "_IS_DUE", "SELECT true")  # they have all looked before the first claims
        assert (await _watch(hand, Balance(Decimal("99.5")), replicas=3)).asked == 1
    assert (await _told(hand))["falgate_fal_balance_usd"] == 99.5
    again = balance.BalanceWatch(hand.gateway.wiring)
    await again._turn(1)
    assert not again.loop._working


async def test_without_an_admin_key_nothing_is_read(hand: Hand) -> None:
    watch = balance.BalanceWatch(hand.gateway.wiring)
    await watch._turn(1)
    assert not watch.loop._working
    assert (await hand.sql("SELECT balance_read_at FROM upstream"))[0]["balance_read_at"] is None


async def test_a_balance_that_cannot_be_read_is_unknown_and_told_of(
    hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    await _watch(hand, Balance(Decimal(50)))
    await _watch(hand, Trouble("fal answered 401", 401))
    assert "falgate_fal_balance_usd" not in await _told(hand)
    assert "look at FAL_ADMIN_KEY" in caplog.text


async def test_a_low_balance_is_warned_of_once_an_hour(hand: Hand, caplog: pytest.LogCaptureFixture) -> None:
    """Low: less than what is held, and a day's charges or 10 dollars."""
    for _ in range(8):
        await _end(hand)
    await hand.submit()

    def warnings() -> int:
        return caplog.text.count("top up at fal.ai/dashboard/billing")

    await _watch(hand, Balance(Decimal("12.60")))  # 1.40 held, 8 times 1.40 charged today
    assert warnings() == 0
    await _watch(hand, Balance(Decimal("12.59")))
    assert warnings() == 1
    await _watch(hand, Balance(Decimal("2.00")))
    assert warnings() == 1
    await hand.sql("UPDATE upstream SET balance_warned_at = now() - interval '61 minutes'")
    await _watch(hand, Balance(Decimal("2.00")))
    assert warnings() == 2
    assert await audit(hand.gateway.wiring.db, zone=hand.gateway.wiring.settings.zone) == []


# The rules


def _alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


async def test_every_metric_that_a_rule_names_exists(hand: Hand) -> None:
    await _end(hand)
    await hand.sql("UPDATE upstream SET balance_usd = 1, balance_read_at = now()")
    await begin_daily_run(hand.gateway.wiring.db, by="test", now=hand.clock())
    await hand.sql("""UPDATE reconciliations SET figures = '{"lists": {"differs": {"apart_usd": "1.40"},
        "ours_only": {"apart_usd": "2.80"}, "fal_only": {"fal_usd": "7.00"}}}'""")
    told = await _told(hand)
    assert (told["falgate_reconciliation_drift_usd"], told["falgate_fal_only_usd"]) == (4.2, 7)
    there = set(_names(await _told(hand)))
    for rule in _alerts():
        named = set(re.findall(r"\bfalgate_\w+", rule["expr"]))
        assert named or "up{" in rule["expr"], rule
        assert named <= there, rule["alert"]


def test_every_alert_says_how_long_how_bad_what_and_where_to_read_on() -> None:
    operating = (ROOT / "docs" / "operating.md").read_text()
    section = operating.split("## When it pages you\n")[1].split("\n## ")[0]
    anchors = {
        "#" + re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#{2,4} (.+)$", "## When it pages you\n" + section, re.MULTILINE)
    }
    alerts = _alerts()
    assert len({rule["alert"] for rule in alerts}) == len(alerts) > 5
    for rule in alerts:
        assert re.fullmatch(r"\d+[smh]", rule["for"]), rule
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        link = rule["annotations"]["runbook_url"]
        assert link.startswith("docs/operating.md#")
        assert link.removeprefix("docs/operating.md") in anchors, link
        for name in re.findall(r"\bfalgate_\w+", rule["expr"]):
            assert f"`{name.removesuffix('_bucket').removesuffix('_count')}" in section, name
    assert str(RULES.relative_to(ROOT)) in section
