"""A cell that Postgres writes is the cell that Python writes."""

import csv
import io

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.db import Database
from app.reports.csv import safe_cell
from app.reports.lines.cells import sql_line, sql_text_cell

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
NASTY = st.text(st.sampled_from(list("=+-@\t\r\n \"',;a\u0001\u00a0\u200b\u202e\ufeff\uff1d\uff20é🙂")), max_size=8)
CELLS = st.lists(st.one_of(st.none(), NASTY, TEXTS), min_size=3, max_size=3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(CELLS, min_size=1, max_size=8))
@example(lines=[["=1+1", "  @SUM(A1)", "\t=cmd()"], ['="a,b"', '-1,"', "\r\n"], ["", None, " a "], ["\n=1", "'", '"']])
async def test_whatever_the_text(db: Database, lines: list[list[str | None]]) -> None:
    async with db.plain() as plain:
        written = await plain.fetchval(
            "SELECT string_agg(line, '' ORDER BY n) FROM ("  # noqa: S608  ours
            f"SELECT n, {sql_line([sql_text_cell(name) for name in ('a', 'b', 'c')])} AS line "
            "FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS t (a, b, c, n)) l",
            *zip(*lines, strict=True),
        )
    read = list(csv.reader(io.StringIO(written, newline=""), strict=True))
    assert read == [["" if text is None else safe_cell(text) for text in line] for line in lines]
    python = io.StringIO(newline="")
    csv.writer(python).writerows([["" if text is None else safe_cell(text) for text in line] for line in lines])
    assert list(csv.reader(io.StringIO(python.getvalue(), newline=""), strict=True)) == read


@pytest.mark.parametrize(
    "text",
    [
        "=1+1", "+1", "-1", "@SUM(A1)", "\t1", "\r1", "\n1", "  =1", "\u00a0=1", "\u200b=1", "\ufeff=1", "\u202e=1",
        "\u3000=1", "\x01=1", "\x7f=1", "\t\n =1", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(A1)", " \uff1d1",
    ],
)  # fmt: skip
async def test_nothing_that_a_spreadsheet_might_run_begins_a_cell(db: Database, text: str) -> None:
    assert safe_cell(text) == f"'{text}"
    async with db.plain() as plain:
        written = await plain.fetchval(f"SELECT {sql_line([sql_text_cell('a')])} FROM (SELECT $1::text AS a) t", text)  # noqa: S608  ours
    assert list(csv.reader(io.StringIO(written, newline=""), strict=True)) == [[f"'{text}"]]


@pytest.mark.parametrize("text", ["a=1", "1-1", "Zoë", " a", "'=1", "🙂=1", "", "\u200ba", "x\n=1"])
def test_what_no_spreadsheet_runs_stays_as_it_is(text: str) -> None:
    assert safe_cell(text) == text


async def test_a_line_may_have_more_cells_than_a_function_takes_arguments(db: Database) -> None:
    async with db.plain() as plain:
        written = await plain.fetchval(f"SELECT {sql_line([str(number) for number in range(130)])}")
    assert written == ",".join(map(str, range(130))) + "\r\n"
