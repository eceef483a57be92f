"""`falgate report`: what was spent, as a table and as CSV."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from app.db import Database
from app.ledger.spend import rebuild_spend
from app.settings import wheel_zone
from tests.cli.commands import falgate, real
from tests.reports.history import Booked, Job, Maker, settled, write

MONDAY = datetime(2026, 5, 4, 12, tzinfo=UTC)

TABLE = """\
month    model             tag.film  charged_usd  held_usd  seconds  jobs  succeeded  failed  canceled
-------  ----------------  --------  -----------  --------  -------  ----  ---------  ------  --------
2026-05  veo-3.1           –               12.80      0.00       10     1          1       0         0
2026-05  kling-2.1-master  �[2J             1.40      1.40        5     2          1       0         0
-------  ----------------  --------  -----------  --------  -------  ----  ---------  ------  --------
total                                      14.20      1.40       15     3          2       0         0
"""


def fill(database_url: str) -> None:
    maker = Maker(tags={"film": "\x1b[2J"})
    history = [
        settled(maker, MONDAY, "1.40"),
        settled(Maker(model="veo-3.1"), MONDAY, "12.80", seconds="10"),
        Job(maker, (Booked("hold", MONDAY, Decimal("1.40"), Decimal(5)),)),
    ]

    async def work() -> None:
        db = Database(database_url, command_seconds=None)
        await write(db, history)
        await rebuild_spend(db, zone=wheel_zone("UTC"))
        await db.close()

    asyncio.run(work())


def test_it_prints_a_table_or_csv(database_url: str, tmp_path: Path) -> None:
    fill(database_url)
    period = ("--since", "2026-05-01", "--until", "2026-06-01")
    env = real(database_url)
    assert falgate("report", *period, "--by", "month,model,tag.film", folder=tmp_path, **env) == (0, TABLE, "")
    done = falgate("report", *period, "--csv", "--by", "day", folder=tmp_path, **env)
    assert done.out.splitlines() == [
        "day,charged_usd,held_usd,seconds,jobs,succeeded,failed,canceled",
        "2026-05-04,14.20,1.40,15,3,2,0,0",
        "total,14.20,1.40,15,3,2,0,0",
    ]
    header, rule, total = falgate("report", *period, folder=tmp_path, **env).out.splitlines()
    assert header.split() == ["charged_usd", "held_usd", "seconds", "jobs", "succeeded", "failed", "canceled"]
    assert set(rule) == {"-", " "}
    assert total.split() == ["14.20", "1.40", "15", "3", "2", "0", "0"]


def test_what_is_no_question_is_one_sentence(database_url: str, tmp_path: Path) -> None:
    done = falgate("report", "--since", "tomorrow", "--by", "teem", folder=tmp_path, **real(database_url))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("falgate: --since: give a date (2026-10-01) or a moment")
    assert "--by: must be of day, week, month" in done.err
    assert done.err.count("\n") == 1
    done = falgate("report", "--since", "", "--by", "", folder=tmp_path, **real(database_url))
    assert (done.code, done.out) == (1, "")
    assert "--since: give a date" in done.err
    assert "--by: must be of day" in done.err
