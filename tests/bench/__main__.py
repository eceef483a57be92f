"""`python -m tests.bench [--rounds N] [--only NAME]`: one table, and the same as JSON in `data/bench.json`."""

import argparse
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

from app.embedded import EmbeddedPostgres
from tests.bench.following import measure_calls, measure_checks
from tests.bench.reconciling import measure_reconciling
from tests.bench.seeding import JOBS
from tests.bench.speed import measure_reads, measure_submits, measure_weight
from tests.bench.stage import Figure
from tests.bench.telling import measure_telling
from tests.bench.waiting import measure_waiting
from tests.bench.years import measure_years


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    median: float
    least: float
    most: float
    goal: str
    met: bool
    note: str


def _row(figure: Figure) -> Row:
    median = statistics.median(figure.values)
    met = median >= figure.goal if figure.at_least else median <= figure.goal
    goal = f"{'≥' if figure.at_least else '≤'} {figure.goal:g}{figure.unit}"
    return Row(figure.what, median, min(figure.values), max(figure.values), goal, met, figure.note)


MEASURES: Final[dict[str, Callable[[EmbeddedPostgres, int], list[Figure]]]] = {
    "submits": measure_submits,
    "reads": measure_reads,
    "weight": measure_weight,
    "calls": measure_calls,
    "checks": measure_checks,
    "telling": measure_telling,
    "waiting": measure_waiting,
    "years": measure_years,
    "reconciling": measure_reconciling,
}


def main() -> int:
    """Run the measures; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of each ratio")
    parser.add_argument("--only", choices=MEASURES, action="append", help="one measure; may be repeated")
    parser.add_argument("--jobs", type=int, default=JOBS, help="how many jobs two years have (years)")
    options = parser.parse_args()
    measures = MEASURES | {"years": partial(measure_years, jobs=options.jobs)}
    rows: list[Row] = []
    for name in options.only or measures:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            EmbeddedPostgres(Path(folder) / "postgres", settings={"max_connections": "60"}) as postgres,
        ):
            rows += [_row(figure) for figure in measures[name](postgres, options.rounds)]
    _print(rows)
    target = Path("data/bench.json")
    target.parent.mkdir(exist_ok=True)
    about = {"python": platform.python_version(), "machine": platform.platform(), "rounds": options.rounds}
    target.write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=2), encoding="utf-8")
    return 0 if all(row.met for row in rows) else 1


def _print(rows: list[Row]) -> None:
    print(f"\n{'what':<58} {'median':>8} {'least':>8} {'most':>8}  {'goal':<10} {'':<6} note")
    for row in rows:
        print(
            f"{row.what:<58} {row.median:>8.2f} {row.least:>8.2f} {row.most:>8.2f}  {row.goal:<10} "
            f"{'met' if row.met else 'MISSED':<6} {row.note}"
        )


if __name__ == "__main__":
    sys.exit(main())
