"""What a month comes to: as the sums beside the ledger keep it, and as the entries themselves tell it.

Months are given as rows `m (month, starts_at, ends_at)`. `jobs` counts those accepted in the month, so also those
that are still under way: the sums learn of a job when it ends.
"""

from typing import Final

from app.ledger.entries import SQL_CHARGES, SQL_ENDED
from app.ledger.spend import SUMS

SQL_GIVEN: Final = "unnest($1::date[], $2::timestamptz[], $3::timestamptz[]) AS m (month, starts_at, ends_at)"


def sql_summed(months: str) -> str:
    """Each month as `spend_monthly` and the jobs under way have it; `held_usd`, `held_jobs`: what is held from it."""
    return f"""
SELECT m.month, m.starts_at, m.ends_at, s.charged_usd, s.seconds, s.jobs + h.held_jobs AS jobs, s.succeeded, s.failed,
       s.canceled, h.held_usd, h.held_jobs
FROM {months}
CROSS JOIN LATERAL (
    SELECT {", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in SUMS)}
    FROM spend_monthly s WHERE s.month = m.month
) s
CROSS JOIN LATERAL (
    SELECT count(*) AS held_jobs, coalesce(sum(e.amount_usd), 0) AS held_usd
    FROM jobs j JOIN entries e ON e.id = j.id
    WHERE j.finished_at IS NULL AND e.booked_at >= m.starts_at AND e.booked_at < m.ends_at
) h"""  # noqa: S608  ours


def sql_told(months: str) -> str:
    """Each month as its entries tell it."""
    return f"""
SELECT m.month, t.* FROM {months}
CROSS JOIN LATERAL (
    SELECT coalesce(sum(e.amount_usd) FILTER (WHERE {SQL_CHARGES}), 0) AS charged_usd,
           coalesce(sum(e.seconds) FILTER (WHERE {SQL_CHARGES}), 0) AS seconds,
           count(*) FILTER (WHERE e.kind = 'hold') AS jobs,
           count(*) FILTER (WHERE r.status = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE r.status = 'failed') AS failed,
           count(*) FILTER (WHERE r.status = 'canceled') AS canceled
    FROM entries e {SQL_ENDED}
    WHERE e.booked_at >= m.starts_at AND e.booked_at < m.ends_at
) t"""  # noqa: S608  ours


SQL_DISAGREEING: Final = f"""
SELECT s.month FROM ({sql_summed(SQL_GIVEN)}) s JOIN ({sql_told(SQL_GIVEN)}) t ON t.month = s.month
WHERE {" OR ".join(f"s.{name} <> t.{name}" for name in SUMS)}
ORDER BY s.month
"""  # noqa: S608  ours
"""The months of which the sums are wrong, at one instant."""

_CLOSED: Final = "closed_months m"

# What was held when it was closed is what was still under way then: no fewer than are now, and no more than did not
# end in the month itself.
SQL_CLOSED: Final = f"""
SELECT m.month, {", ".join(f"m.{name} AS found_{name}, t.{name} AS told_{name}" for name in SUMS)},
       m.held_usd, m.held_jobs, h.least_usd, h.most_usd, h.least_jobs, h.most_jobs
FROM closed_months m JOIN ({sql_told(_CLOSED)} WHERE m.reopened_at IS NULL) t ON t.month = m.month
CROSS JOIN LATERAL (
    SELECT coalesce(sum(e.amount_usd) FILTER (WHERE r.id IS NULL), 0) AS least_usd,
           coalesce(sum(e.amount_usd) FILTER (WHERE r.id IS NULL OR r.booked_at >= m.ends_at), 0) AS most_usd,
           count(*) FILTER (WHERE r.id IS NULL) AS least_jobs,
           count(*) FILTER (WHERE r.id IS NULL OR r.booked_at >= m.ends_at) AS most_jobs
    FROM entries e LEFT JOIN entries r ON r.job_id = e.job_id AND r.resolves_id IS NOT NULL
    WHERE e.kind = 'hold' AND e.booked_at >= m.starts_at AND e.booked_at < m.ends_at
) h
WHERE m.reopened_at IS NULL
ORDER BY m.month
"""  # noqa: S608  ours
"""Every closed month beside what its entries tell."""

SQL_OPEN_SINCE: Final = """
SELECT b.open_since::text AS found, c.open_since::text AS expected
FROM books b, (
    SELECT coalesce(max(ends_at), '-infinity') AS open_since FROM closed_months WHERE reopened_at IS NULL
) c WHERE b.open_since <> c.open_since
"""
"""Books that are open since another moment than the closed months say."""
