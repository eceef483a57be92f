"""Odd prices, to the nano-dollar: every report, the export and the views come to what the ledger says."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import pytest

from app.money import NANO

from .counter import Counter, total
from .history import CHARGED, Booked, Job

pytestmark = pytest.mark.asyncio(loop_scope="package")

FROM, NOW = datetime(2026, 1, 31, 22, tzinfo=UTC), datetime(2026, 8, 15, tzinfo=UTC)
JOBS: Final = 400
GROUPINGS = ("", "day", "week,model", "month", "team,user,key", "end_user", "tag.film", "day,week,month,end_user")


def odd(chance: random.Random) -> Decimal:
    return Decimal(chance.randrange(1, 3 * 10**9)) / 10**9


def history(counter: Counter) -> list[Job]:
    chance = random.Random(5)  # noqa: S311  no secret
    jobs = []
    for _ in range(JOBS):
        at = FROM + timedelta(seconds=chance.randrange(190 * 86_400))
        usd, seconds = odd(chance), odd(chance)
        entries = [Booked("hold", at, usd, seconds)]
        if chance.random() < 0.9:
            status = chance.choice(["succeeded", "failed", "canceled"])
            entries.append(Booked(chance.choice(["settle", "settle", "void"]), at, usd, seconds, status))
            entries += [
                Booked("adjustment", at + timedelta(days=3), (-odd(chance) / 8).quantize(NANO), odd(chance))
            ] * (chance.random() < 0.3)
        who = chance.choice(["mia", "lead", "stranger"])
        made_by = counter.by(who, end_user=chance.choice([None, "a"]), tags={"film": chance.choice("xy")})
        jobs.append(Job(made_by, tuple(entries)))
    return jobs


async def test_all_that_is_told_of_odd_prices_is_what_the_ledger_says(counter: Counter) -> None:
    told = history(counter)
    await counter.fill(*told, now=NOW)
    entries = [entry for job in told for entry in job.entries if entry.kind in CHARGED]
    charged, seconds = sum(entry.usd for entry in entries), sum(entry.seconds for entry in entries)
    held = sum(job.entries[0].usd for job in told if job.end is None)
    for grouping in GROUPINGS:
        query = f"spend?since=2026-01-01&group_by={grouping}" if grouping else "spend?since=2026-01-01"
        report = (await counter.ask(query)).json()
        found = [(Decimal(line["charged_usd"]), Decimal(line["held_usd"])) for line in report["data"]]
        assert (sum(usd for usd, _ in found), sum(usd for _, usd in found)) == (charged, held), grouping
        assert (Decimal(report["total"]["charged_usd"]), Decimal(report["total"]["held_usd"])) == (charged, held)
        assert report["total"]["seconds"] == float(seconds)
        lines = await counter.lines(f"{query}&format=csv")
        assert {(Decimal(lines[-1]["charged_usd"]), Decimal(lines[-1]["seconds"]))} == {(charged, seconds)}
        if grouping:
            assert total(lines[:-1], "charged_usd") == charged
            assert total(lines[:-1], "seconds") == seconds
    focus = await counter.lines("focus.csv?since=2026-01-01")
    assert (total(focus, "BilledCost"), total(focus, "ConsumedQuantity")) == (charged, seconds)
    jobs = await counter.lines("jobs.csv?since=2026-01-01")
    assert len(jobs) == JOBS
    async with counter.gateway.wiring.db.plain() as plain:
        for source in ("spend_by_day", "spend_daily", "spend_monthly"):
            row = await plain.fetchrow(f"SELECT sum(charged_usd), sum(seconds) FROM {source}")  # noqa: S608
            assert tuple(row or ()) == (charged, seconds), source
