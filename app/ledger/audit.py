"""The audit: entries are the truth, and every cache of them must agree."""

from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

from app.db import Database, Plain
from app.ledger.entries import SQL_CHARGES
from app.ledger.months.shapes import show_month
from app.ledger.months.sums import SQL_CLOSED, SQL_OPEN_SINCE
from app.ledger.spend import SQL_TOLD, SUMS, days_of_entries
from app.money import decimal_text


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that does not agree: what, and what was found against what entries say."""

    what: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.what}: found {self.found}, expected {self.expected}"


# Each job against its own entries.
_JOBS: Final = f"""
WITH told AS (
    SELECT j.id, j.status, j.held_usd, j.charged_usd, j.finished_at, j.quoted_usd, j.seconds,
           count(*) FILTER (WHERE e.kind = 'hold') AS holds,
           count(*) FILTER (WHERE e.kind IN ('settle', 'void')) AS resolved,
           coalesce(sum(e.amount_usd) FILTER (WHERE e.kind = 'hold'), 0) AS hold_usd,
           coalesce(sum(e.seconds) FILTER (WHERE e.kind = 'hold'), 0) AS hold_seconds,
           coalesce(sum(e.amount_usd) FILTER (WHERE {SQL_CHARGES}), 0) AS charged
    FROM jobs j LEFT JOIN entries e ON e.job_id = j.id GROUP BY j.id
)
SELECT id, 'holds' AS what, holds::text AS found, '1' AS expected FROM told WHERE holds <> 1
UNION ALL
SELECT id, 'hold', hold_usd::text, quoted_usd::text FROM told WHERE hold_usd <> quoted_usd
UNION ALL
SELECT id, 'seconds of the hold', hold_seconds::text, seconds::text FROM told WHERE hold_seconds <> seconds
UNION ALL
SELECT id, 'settles and voids', resolved::text, CASE WHEN finished_at IS NULL THEN '0' ELSE '1' END
FROM told WHERE resolved <> CASE WHEN finished_at IS NULL THEN 0 ELSE 1 END
UNION ALL
SELECT id, 'held_usd', held_usd::text, CASE WHEN resolved = 0 THEN hold_usd::text ELSE '0' END
FROM told WHERE held_usd <> CASE WHEN resolved = 0 THEN hold_usd ELSE 0 END
UNION ALL
SELECT id, 'charged_usd', coalesce(charged_usd::text, 'null'), charged::text
FROM told WHERE finished_at IS NOT NULL AND charged_usd IS DISTINCT FROM charged
UNION ALL
SELECT a.id, 'entries of a job that is not there', count(*)::text, '0'
FROM (SELECT e.job_id AS id FROM entries e LEFT JOIN jobs j ON j.id = e.job_id WHERE j.id IS NULL) a GROUP BY a.id
"""  # noqa: S608  ours

# Each window against the entries of the jobs that remember it.
_WINDOWS: Final = f"""
WITH remembered AS (
    SELECT w.id AS usage_id, j.id AS job_id, j.finished_at
    FROM jobs j CROSS JOIN LATERAL unnest(j.quota_usage_ids) AS w (id)
), told AS (
    SELECT r.usage_id,
           count(DISTINCT r.job_id) AS jobs,
           count(DISTINCT r.job_id) FILTER (WHERE r.finished_at IS NULL) AS in_flight,
           coalesce(sum(e.amount_usd) FILTER (WHERE e.kind = 'hold' AND r.finished_at IS NULL), 0) AS held_usd,
           coalesce(sum(e.seconds) FILTER (WHERE e.kind = 'hold' AND r.finished_at IS NULL), 0) AS held_seconds,
           coalesce(sum(e.amount_usd) FILTER (WHERE {SQL_CHARGES}), 0) AS used_usd,
           coalesce(sum(e.seconds) FILTER (WHERE {SQL_CHARGES}), 0) AS used_seconds
    FROM remembered r JOIN entries e ON e.job_id = r.job_id GROUP BY r.usage_id
), expected AS (
    SELECT u.id, u.used, u.held, q.scope, q.metric, q."window", u.subject, u.starts_at,
           coalesce(CASE q.metric WHEN 'usd' THEN t.used_usd WHEN 'seconds' THEN t.used_seconds
                                  WHEN 'jobs' THEN t.jobs ELSE 0 END, 0) AS told_used,
           coalesce(CASE q.metric WHEN 'usd' THEN t.held_usd WHEN 'seconds' THEN t.held_seconds
                                  WHEN 'in_flight' THEN t.in_flight ELSE 0 END, 0) AS told_held
    FROM quota_usage u JOIN quotas q ON q.id = u.quota_id LEFT JOIN told t ON t.usage_id = u.id
)
SELECT concat_ws(' ', scope, nullif(subject, ''), metric, "window", 'from', starts_at) AS what,
       concat('used ', used, ' held ', held) AS found, concat('used ', told_used, ' held ', told_held) AS expected
FROM expected WHERE used <> told_used OR held <> told_held
UNION ALL
SELECT concat('window ', r.usage_id, ' remembered by a job'), 'no row', 'a row'
FROM (SELECT DISTINCT usage_id FROM remembered) r LEFT JOIN quota_usage u ON u.id = r.usage_id WHERE u.id IS NULL
"""  # noqa: S608  ours

_KEPT: Final = {
    "spend_daily": "SELECT * FROM told",
    "spend_monthly": f"""
SELECT date_trunc('month', day::timestamp)::date AS month, team_id, user_id, key_id, model,
       {", ".join(f"sum({name}) AS {name}" for name in SUMS)} FROM told GROUP BY 1, 2, 3, 4, 5""",  # noqa: S608  ours
}


def _sql_spend(table: str, period: str) -> str:
    """What a table keeps against what entries tell, where they differ."""
    group = f"{period}, team_id, user_id, key_id, model"
    return f"""
WITH told AS MATERIALIZED ({SQL_TOLD}), t AS ({_KEPT[table]})
SELECT concat_ws(' ', {group}) AS what,
       {", ".join(f"coalesce(k.{name}, 0) AS found_{name}, coalesce(t.{name}, 0) AS told_{name}" for name in SUMS)}
FROM t FULL JOIN {table} k USING ({group})
WHERE {" OR ".join(f"coalesce(k.{name}, 0) <> coalesce(t.{name}, 0)" for name in SUMS)}
ORDER BY 1
"""  # noqa: S608  ours


_HELD: Final = ("least", "held", "most")


async def audit(db: Database, *, zone: ZoneInfo) -> list[Difference]:
    """Every difference between entries and what is kept beside them, at one instant; writes nothing."""
    async with db.begin_plain() as plain:
        await plain.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await plain.execute("SET LOCAL statement_timeout = 0")
        jobs = [
            Difference(f"job_{row['id'].hex} {row['what']}", row["found"], row["expected"])
            for row in await plain.fetch(_JOBS)
        ]
        windows = [
            Difference(f"quota {row['what']}", row["found"], row["expected"]) for row in await plain.fetch(_WINDOWS)
        ]
        return jobs + windows + await _spend(plain, zone) + await _closed_months(plain)


async def _spend(plain: Plain, zone: ZoneInfo) -> list[Difference]:
    days, starts = await days_of_entries(plain, zone)
    return [
        Difference(f"{table} {row['what']}", _figures(row, "found"), _figures(row, "told"))
        for table, period in (("spend_daily", "day"), ("spend_monthly", "month"))
        for row in await plain.fetch(_sql_spend(table, period), days, starts)
    ]


async def _closed_months(plain: Plain) -> list[Difference]:
    """Closed months against the entries booked in them, and the books against the closed months."""
    differences = [
        Difference("books open since", row["found"], row["expected"]) for row in await plain.fetch(SQL_OPEN_SINCE)
    ]
    for row in await plain.fetch(SQL_CLOSED):
        what = f"closed month {show_month(row['month'])}"
        if any(row[f"found_{name}"] != row[f"told_{name}"] for name in SUMS):
            differences.append(Difference(what, _figures(row, "found"), _figures(row, "told")))
        if not (
            row["least_usd"] <= row["held_usd"] <= row["most_usd"]
            and row["least_jobs"] <= row["held_jobs"] <= row["most_jobs"]
        ):
            least, found, most = (f"{decimal_text(row[f'{of}_usd'])} USD of {row[f'{of}_jobs']} jobs" for of in _HELD)
            differences.append(Difference(f"{what}, still held", found, f"from {least} to {most}"))
    return differences


def _figures(row: Any, which: str) -> str:
    usd, seconds, *counts = (row[f"{which}_{name}"] for name in SUMS)
    named = ", ".join(f"{count} {name}" for name, count in zip(SUMS[2:], counts, strict=True))
    return f"{decimal_text(usd)} USD, {decimal_text(seconds)} s, {named}"
