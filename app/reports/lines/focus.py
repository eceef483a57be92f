"""`focus.csv`: what was charged, in the columns of FOCUS 1.2 (the FinOps Open Cost and Usage Specification).

A line for each entry that charges. What FOCUS calls the billing period is the month that an entry was booked in, the
charge period the day; of a correction the charge period is the day that it corrects.
"""

import re
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

from app.accounts.callers import Actor
from app.db import Database, sql_moment
from app.ids import sql_show
from app.ledger.entries import SQL_CHARGES
from app.ledger.windows import first_instant, next_month
from app.money import sql_decimal_text
from app.problems import InvalidInput
from app.reports.calendar import day_starts, months_through
from app.reports.lines.cells import sql_json_cell, sql_line, sql_text_cell
from app.reports.lines.pages import SQL_LAST, SQL_SLICE, ByBooking
from app.reports.parameters import read_parameters
from app.reports.period import FIRST_YEAR, LAST_YEAR, Faults, Period, read_period
from app.reports.reach import seen_by
from app.reports.values import Values

_MONTH: Final = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)
_NAMES: Final = ("month", "since", "until")

_COST: Final = "p.cost"
_SECONDS: Final = "p.quantity"


def _sql_bound(moment: str) -> str:
    """To the second (FOCUS 1.2, 4.3): days and months begin at one."""
    return f"""to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')"""


_DAY: Final = "({days}::timestamptz[])[p.day + %d]"
_BILLED: Final = "({months}::timestamptz[])[p.month + %d]"
_FAL: Final = "'fal'"

COLUMNS: Final = {
    "BilledCost": _COST,
    "BillingAccountId": "{account}::text",
    "BillingAccountName": "{account}::text",
    "BillingCurrency": "'USD'",
    "BillingPeriodEnd": _sql_bound(_BILLED % 1),
    "BillingPeriodStart": _sql_bound(_BILLED % 0),
    "ChargeCategory": "'Usage'",
    "ChargeClass": "CASE WHEN p.corrects_at IS NOT NULL THEN 'Correction' END",
    "ChargeDescription": sql_text_cell("p.description"),
    "ChargeFrequency": "'Usage-Based'",
    "ChargePeriodEnd": _sql_bound(_DAY % 1),
    "ChargePeriodStart": _sql_bound(_DAY % 0),
    "ConsumedQuantity": _SECONDS,
    "ConsumedUnit": "'Seconds'",
    "ContractedCost": _COST,
    "EffectiveCost": _COST,
    "InvoiceIssuerName": _FAL,
    "ListCost": _COST,
    "PricingCategory": "'Standard'",
    "PricingQuantity": _SECONDS,
    "PricingUnit": "'Seconds'",
    "ProviderName": _FAL,
    "PublisherName": _FAL,
    "ResourceId": sql_show("job", "p.job_id"),
    "ResourceType": "'Video'",
    "ServiceCategory": "'AI and Machine Learning'",
    "ServiceName": "'fal Model APIs'",
    "ServiceSubcategory": "'Generative AI'",
    "SkuId": sql_text_cell("j.endpoint"),
    "SkuPriceId": sql_show("price", "p.price_id"),
    "SubAccountId": sql_show("team", "p.team_id"),
    "SubAccountName": sql_text_cell("t.name"),
    "Tags": sql_json_cell("p.tags"),
    "x_BookedAt": sql_moment("p.booked_at"),
    "x_EndUser": sql_text_cell("p.end_user"),
    "x_EntryId": sql_show("entry", "p.id"),
    "x_EntryKind": "p.kind",
    "x_FalRequestId": sql_text_cell("d.fal_request_id"),
    "x_FalUnits": "trim_scale(p.fal_units)",
    "x_JobCreatedAt": sql_moment("j.created_at"),
    "x_JobId": sql_show("job", "p.job_id"),
    "x_KeyId": sql_show("key", "p.key_id"),
    "x_KeyName": sql_text_cell("k.name"),
    "x_Model": sql_text_cell("p.model"),
    "x_Note": sql_text_cell("p.note"),
    "x_UserId": sql_show("user", "p.user_id"),
    "x_UserName": sql_text_cell("u.name"),
}
"""Each column and the SQL of its cell: FOCUS' own, then ours, both in alphabetical order (FOCUS 1.2, 4.1)."""
HEADER: Final = ",".join(COLUMNS).encode() + b"\r\n"

# What is booked to a job of a closed month corrects that month (FOCUS 1.2, 3.12). Whatever stands at the very end of a
# closed month was moved there (`sql_booked_at`), because it was closed.
_CORRECTS: Final = """
CASE WHEN e.kind <> 'settle' THEN (
    SELECT r.booked_at FROM entries r
    WHERE r.job_id = e.job_id AND r.resolves_id IS NOT NULL
      AND r.booked_at < ({months}::timestamptz[])[width_bucket(e.booked_at, {months}::timestamptz[])]
      AND EXISTS (
          SELECT FROM closed_months c
          WHERE c.starts_at <= r.booked_at AND r.booked_at < c.ends_at
            AND (c.closed_at <= e.booked_at OR EXISTS (SELECT FROM closed_months l WHERE l.ends_at = e.booked_at))
            AND (c.reopened_at IS NULL OR c.reopened_at > e.booked_at)
      )
) END"""
_FIRST_CLOSED: Final = "SELECT least($1::timestamptz, min(starts_at)) FROM closed_months"


def read_focus_period(query: list[tuple[str, str]], *, now: datetime, zone: ZoneInfo) -> Period:
    """The period that a URL asks for: `month`, or `since` and `until`. Raises InvalidInput, all faults at once."""
    faults: Faults = []
    given = read_parameters(query, _NAMES, faults)
    if "month" not in given:
        period = read_period(given.get("since"), given.get("until"), now=now, zone=zone, faults=faults)
    else:
        if len(given) > 1:
            faults.append({"parameter": "month", "detail": "give a month, or `since` and `until`, not both"})
        period = _read_month(given["month"], zone, faults) or Period(now, now)
    if faults:
        raise InvalidInput(faults)
    return period


def _read_month(value: str, zone: ZoneInfo, faults: Faults) -> Period | None:
    found = _MONTH.fullmatch(value)
    if found is None or not FIRST_YEAR <= int(found[1]) <= LAST_YEAR:
        detail = f"must be a month such as 2026-10, of the years {FIRST_YEAR} to {LAST_YEAR}"
        faults.append({"parameter": "month", "detail": detail})
        return None
    first = date(int(found[1]), int(found[2]), 1)
    return Period(first_instant(first, zone), first_instant(next_month(first), zone))


async def by_entry(
    db: Database, period: Period, *, actor: Actor, until: datetime, zone: ZoneInfo, account: str
) -> ByBooking:
    """The entries that charge and were booked in the period, as this actor sees them: as reports of spend do."""
    since = period.since
    async with db.plain() as plain:
        first = await plain.fetchval(_FIRST_CLOSED, since)
    values = Values(4)
    names = {
        "{account}": values.put(account),
        "{days}": values.put(day_starts(first, until, zone)),
        "{months}": values.put(months_through(since, until, zone).starts),
    }
    conditions = [SQL_SLICE, SQL_CHARGES]
    if (seen := seen_by(actor)) is not None:
        conditions.append(f"e.{seen[0]} = {values.put(seen[1])}")
    sql = f"""
WITH slice AS MATERIALIZED (
    SELECT e.*, {_CORRECTS} AS corrects_at FROM (
        SELECT e.* FROM entries e WHERE {" AND ".join(conditions)} ORDER BY e.booked_at, e.id LIMIT $4
    ) e
), page AS MATERIALIZED (  -- each told once, however many cells it stands in
    SELECT e.*, width_bucket(coalesce(e.corrects_at, e.booked_at), {{days}}::timestamptz[]) AS day,
           width_bucket(e.booked_at, {{months}}::timestamptz[]) AS month,
           {sql_decimal_text("e.amount_usd")} AS cost, trim_scale(e.seconds)::text AS quantity,
           concat(e.model, ', ', trim_scale(e.seconds), ' s of video',
                  CASE WHEN e.kind <> 'settle' THEN concat(', ', e.kind, ': ' || e.note) END) AS description
    FROM slice e
)
SELECT convert_to(string_agg(l.line, '' ORDER BY l.booked_at, l.id), 'UTF8') AS text, count(*) AS lines, {SQL_LAST}
FROM (
    SELECT p.id, p.booked_at, {sql_line(list(COLUMNS.values()))} AS line
    FROM page p LEFT JOIN jobs j ON j.id = p.job_id LEFT JOIN teams t ON t.id = p.team_id
    LEFT JOIN users u ON u.id = p.user_id LEFT JOIN keys k ON k.id = p.key_id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN p.kind = 'overage' THEN p.source ELSE j.fal_request_id END AS fal_request_id
    ) d
) l
"""  # noqa: S608  ours
    for name, placeholder in names.items():
        sql = sql.replace(name, placeholder)
    return ByBooking(sql, values, since, until)
