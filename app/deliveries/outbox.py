"""Writing deliveries, in the transaction that ends their jobs or finds what they alert of; counting those that wait."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from app.db import Plain, sql_moment
from app.deliveries.retries import DAY_SECONDS
from app.ids import new_id
from app.outward.targets import target_of

ALERT: Final = "quota.alert"
"""The type of what is no news of its job, and stays when that is forgotten."""
_STORE_ALERT: Final = f"""
INSERT INTO deliveries (id, job_id, user_id, team_id, type, url, target, body, status, next_try_at, give_up_at,
                        created_at, shape)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'pending', now(), now() + make_interval(secs => {DAY_SECONDS}), $9, $10)
"""  # noqa: S608  ours
_COUNT: Final = "SELECT count(*) FROM deliveries WHERE status = 'pending'"


def sql_store_deliveries(job_json: str, *, fal_json: str) -> str:
    """The statement of `store_deliveries`; `job_json` is the SQL that writes the row `j` of jobs as JSON text.

    `fal_json` writes the whole body of a job whose webhook is to have fal's shape.
    """
    timestamp = sql_moment("j.finished_at")
    standard = (
        f"""'{{"type":"job.' || j.status || '","timestamp":"' || {timestamp} || '","data":' || {job_json} || '}}'"""
    )
    body = f"CASE WHEN j.webhook_shape = 'fal' THEN {fal_json} ELSE {standard} END"
    return f"""
INSERT INTO deliveries (id, job_id, user_id, team_id, type, url, target, body, status, next_try_at, give_up_at,
                        created_at, shape)
SELECT d.id, j.id, j.user_id, j.team_id, 'job.' || j.status, j.webhook_url, d.target, {body}, 'pending', now(),
       now() + make_interval(secs => {DAY_SECONDS}), $4, j.webhook_shape
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS d (id, job_id, target) JOIN jobs j ON j.id = d.job_id
"""  # noqa: S608  ours


async def store_deliveries(plain: Plain, statement: str, urls: Mapping[UUID, str], *, now: datetime) -> None:
    """A delivery for each of these jobs, which have just ended in this transaction; by id, its `webhook_url`.

    `statement` is of `sql_store_deliveries`. The bodies are frozen here.
    """
    await plain.execute(
        statement, [new_id(now) for _ in urls], list(urls), [target_of(url) for url in urls.values()], now
    )


async def store_alert(
    plain: Plain, *, job_id: UUID, user_id: UUID, team_id: UUID, url: str, shape: str, body: str, now: datetime
) -> UUID:
    """A delivery about a quota, which names a job that counts in it; returns its id.

    The user's webhook secret signs it, but for `slack`, whose URL is the secret.
    """
    delivery_id = new_id(now)
    await plain.execute(
        _STORE_ALERT, delivery_id, job_id, user_id, team_id, ALERT, url, target_of(url), body, now, shape
    )
    return delivery_id


async def count_pending(plain: Plain) -> int:
    """How many deliveries wait, or are being tried; a small index holds just these."""
    return int(await plain.fetchval(_COUNT))


def sql_erase_deliveries(job_ids: str) -> str:
    """The statement that erases what these jobs' deliveries tell; one that has not arrived will not be sent again.

    An empty body is the mark of an erased one.
    """
    return f"""
UPDATE deliveries SET body = '', next_try_at = NULL,
       status = CASE WHEN status = 'pending' THEN 'failed' ELSE status END,
       error = CASE WHEN status = 'pending' THEN 'erased before it was delivered' ELSE error END
WHERE job_id = ANY({job_ids}) AND type <> '{ALERT}'"""  # noqa: S608  ours
