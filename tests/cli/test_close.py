"""`falgate close`: what it prints, what it refuses, and that closing twice changes nothing."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.commands import falgate, real
from tests.conftest import settings_for
from tests.ledger.house import Clock, House


async def _live(database_url: str) -> list[str]:
    """Two months of which one has no job; the ids of the two jobs that are still under way."""
    house = House(settings_for(database_url), clock=Clock(datetime(2026, 1, 5, tzinfo=UTC)))
    try:
        who = await house.someone()
        held = [(await house.submit(who)).hex for _ in range(12)]
        await house.end(await house.submit(who))
        await house.void(await house.submit(who))
        return held
    finally:
        await house.close()


def test_a_month_is_closed_opened_again_and_listed(database_url: str, tmp_path: Path) -> None:
    held = asyncio.run(_live(database_url))

    def close(*arguments: str) -> tuple[int, str, str]:
        return falgate("close", *arguments, folder=tmp_path, **real(database_url))

    assert close("--list") == (0, "no month is closed\n", "")
    code, out, err = close("2026-02")
    assert (code, err) == (0, "")
    totals = [
        "2026-01: 1.40 USD, 5 s, 14 jobs (1 succeeded, 0 failed, 1 canceled)",
        "2026-02: 0.00 USD, 0 s, 0 jobs (0 succeeded, 0 failed, 0 canceled)",
    ]
    assert out.splitlines() == [
        *(f"closed {line}" for line in totals),
        "still held: 16.80 USD of 12 jobs, to be booked in the open month",
        *(f"  job_{job_id}" for job_id in sorted(held)[:10]),
        "  and 2 more",
    ]
    again = "Nothing to do. The books are closed up to the end of 2026-02.\n"
    assert close("2026-01") == (0, again, "")
    assert close("2026-01", "--reopen", "--note", "x") == (
        1, "", "falgate: 2026-02 is closed too, and is the one to reopen first.\n",
    )  # fmt: skip
    assert close("2026-02", "--reopen", "--note", "a \x07bill\u202e came late") == (0, "2026-02 is open again\n", "")
    lines = re.sub(r"reopened \d{4}-\d\d-\d\d by", "reopened today by", close("--list")[1]).splitlines()
    assert [line.partition(";")[0] for line in lines if not line.startswith(" ")] == totals[::-1]
    assert "  reopened today by command line: a �bill� came late" in lines
    assert falgate("audit", folder=tmp_path, **real(database_url)).out == "the ledger agrees\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["9999-13"], "'9999-13': a month is written like 2026-10."),
        (["9999-12"], "'9999-12': this month lies outside the years 1970 to 9998."),
        (["9998-12"], "9998-12 has not ended yet; close it once it has."),
        (["1999-01"], "Nothing was booked in 1999-01 or before it: there is nothing to close."),
        (["1999-01", "--reopen", "--note", "x"], "1999-01 is open: there is nothing to reopen."),
        ([], "Give one month, like 2026-10, or --list."),
        (["2026-10", "--list"], "Give one month, like 2026-10, or --list."),
        (["2026-10", "--reopen"], "--reopen takes a month and a --note that says why; nothing else takes a note."),
        (["2026-10", "--note", "x"], "--reopen takes a month and a --note that says why; nothing else takes a note."),
        (["2026-10", "--reopen", "--note", " "], "--note has 1 to 1000 characters, in UTF-8."),
        (["2026-10", "--reopen", "--note", "\udcff"], "--note has 1 to 1000 characters, in UTF-8."),
    ],
)
def test_what_it_cannot_do_is_one_sentence(
    database_url: str, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = falgate("close", *arguments, folder=tmp_path, **real(database_url))
    assert done == (1, "", f"falgate: {sentence}\n")
