"""The statement that lays fal's bill beside our charges, fal request by fal request; `lists` reads from its `lines`."""

from datetime import timedelta
from typing import Final

from app.ledger.entries import SQL_CHARGES

GRACE: Final = timedelta(days=2)
"""For so long after a charge it says nothing that fal has not billed it: its events come late (FAL.md 6)."""

BY_BILL: Final = "bill "
"""What the source of an adjustment begins with that comes from fal's bill; `bill <fal request> <number>`."""

_OF_A_PERIOD: Final = f"""
    SELECT e.job_id FROM entries e
    WHERE e.booked_at >= $4 AND e.booked_at < $5 AND {SQL_CHARGES}
    UNION
    SELECT a.job_id FROM fal_bills f JOIN attempts a ON a.fal_request_id = f.fal_request_id
    WHERE f.billed_at >= $4 AND f.billed_at < $5
"""  # noqa: S608  ours
_BILLED_THEN: Final = "SELECT fal_request_id FROM fal_bills WHERE billed_at >= $4 AND billed_at < $5"
_OF_A_JOB: Final = "SELECT $4::uuid AS job_id"
_NOTHING_ELSE: Final = "SELECT NULL::text"


def _sql_lines(jobs: str, requests: str) -> str:
    """The lines of these jobs and of these fal requests, as the columns of Line; $1 to $3 are coverage and GRACE."""
    return f"""
WITH looked AS MATERIALIZED ({jobs}),
booked AS (
    SELECT e.job_id,
           coalesce(CASE e.kind WHEN 'overage' THEN e.source
                                WHEN 'adjustment' THEN substring(e.source FROM '^{BY_BILL}([^ ]+) [0-9]+$') END,
                    j.fal_request_id) AS fal_request_id,
           sum(e.amount_usd) AS usd, sum(e.seconds) AS seconds, max(e.booked_at) AS charged_at,
           count(*) FILTER (WHERE e.kind = 'adjustment' AND e.source LIKE '{BY_BILL}%') AS corrections,
           bool_or(e.kind = 'adjustment' AND e.source NOT LIKE '{BY_BILL}%') AS is_by_hand
    FROM looked l JOIN jobs j ON j.id = l.job_id JOIN entries e ON e.job_id = l.job_id
    WHERE {SQL_CHARGES} GROUP BY 1, 2
), sent AS (
    SELECT a.job_id, a.fal_request_id, a.fal_key_id, a.stray_check_at IS NOT NULL AS is_followed
    FROM looked l JOIN attempts a ON a.job_id = l.job_id WHERE a.fal_request_id IS NOT NULL
), ours AS MATERIALIZED (
    SELECT coalesce(s.job_id, b.job_id) AS job_id, coalesce(s.fal_request_id, b.fal_request_id) AS fal_request_id,
           s.fal_key_id, coalesce(s.is_followed, false) AS is_followed, coalesce(b.usd, 0) AS ours_usd,
           coalesce(b.seconds, 0) AS ours_seconds, b.charged_at, coalesce(b.corrections, 0) AS corrections,
           coalesce(b.is_by_hand, false) AS is_by_hand
    FROM sent s FULL JOIN booked b ON b.job_id = s.job_id AND b.fal_request_id = s.fal_request_id
), billed AS (
    SELECT f.fal_request_id, sum(f.usd) AS usd, sum(f.units) AS units, min(f.billed_at) AS billed_at,
           min(f.endpoint) AS endpoint, string_agg(DISTINCT f.paid_with, ', ') AS paid_with
    FROM fal_bills f
    JOIN (SELECT fal_request_id FROM ours UNION {requests}) w ON w.fal_request_id = f.fal_request_id GROUP BY 1
), told AS (
    SELECT o.job_id, coalesce(o.fal_request_id, f.fal_request_id) AS fal_request_id, j.status AS job_status,
           coalesce(j.endpoint, f.endpoint) AS endpoint, j.model, j.team_id, j.user_id,
           coalesce(o.ours_usd, 0) AS ours_usd, coalesce(f.usd, 0) AS fal_usd, o.charged_at, f.billed_at,
           f.paid_with, coalesce(o.is_by_hand, false) AS is_by_hand, o.ours_seconds, j.seconds AS job_seconds,
           f.units AS fal_units, o.corrections, o.is_followed, j.finished_at,
           bool_or(f.usd IS NOT NULL) OVER (PARTITION BY o.fal_key_id) AS is_key_billed
    FROM ours o FULL JOIN billed f ON f.fal_request_id = o.fal_request_id LEFT JOIN jobs j ON j.id = o.job_id
), lines AS MATERIALIZED (
    SELECT CASE WHEN job_id IS NULL THEN 'fal_only'
                WHEN billed_at IS NOT NULL AND fal_usd = ours_usd THEN 'matched'
                WHEN finished_at IS NULL OR is_followed THEN 'pending'
                WHEN billed_at IS NOT NULL THEN 'differs'
                WHEN ($2::timestamptz[])[width_bucket(charged_at, $1::timestamptz[])] >= charged_at + $3::interval
                THEN 'ours_only' ELSE 'pending' END AS list,
           told.*, coalesce(billed_at, charged_at) AS at, coalesce(fal_request_id, job_id::text) AS key
    FROM told WHERE billed_at IS NOT NULL OR ours_usd <> 0
)
"""  # noqa: S608  ours


SQL_LINES: Final = _sql_lines(_OF_A_PERIOD, _BILLED_THEN)
"""Of what was charged or billed in [$4, $5)."""
SQL_LINES_OF_JOB: Final = _sql_lines(_OF_A_JOB, _NOTHING_ELSE)
"""Of the job $4, and of no fal request but its own."""
