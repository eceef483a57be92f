"""Deliveries as their owners see them: listed, and asked for again."""

from typing import Any, Final
from uuid import UUID

from app.accounts.callers import Actor
from app.accounts.reach import not_found
from app.db import Plain
from app.deliveries.outbox import ALERT
from app.deliveries.retries import DAY_SECONDS
from app.deliveries.shapes import Delivery, DeliveryQuery
from app.http import Page
from app.ids import parse, show
from app.problems import Problem

# Of an alert the path is left out: Slack's is a secret, which its team's leads read where they set it.
_URL: Final = f"CASE WHEN type = '{ALERT}' THEN regexp_replace(url, '^(https?://[^/?]*).*', '\\1/…') ELSE url END"
_SHOWN: Final = f"""id, job_id, coalesce(shape, 'standard') AS shape, type, {_URL} AS url, status, tries, next_try_at,
response_status, error, created_at, tried_at, delivered_at"""
_THEIRS: Final = "id = $1 AND ($2 = 'admin' OR user_id = $3 OR ($2 = 'lead' AND team_id = $4))"
# `tries` begins anew, and so do the pauses between them. Whoever is sending it now no longer has the lease.
_REDELIVER: Final = f"""
UPDATE deliveries SET status = 'pending', tries = 0, next_try_at = now(), delivered_at = NULL,
       give_up_at = now() + make_interval(secs => {DAY_SECONDS})
WHERE {_THEIRS} AND body <> ''
RETURNING {_SHOWN}
"""  # noqa: S608  ours
_IS_ERASED: Final = f"SELECT EXISTS (SELECT FROM deliveries WHERE {_THEIRS} AND body = '')"  # noqa: S608  ours


class DeliveryErased(Problem):
    """What this webhook told was erased together with its job's input and output, so it cannot be sent again.

    `GET /v1/jobs/{id}` still shows how the job ended and what it cost.
    """

    status = 409


async def list_deliveries(plain: Plain, query: DeliveryQuery, *, actor: Actor) -> Page[Delivery]:
    """A page of deliveries, newest first: one's own; a lead's team's too; all for an admin."""
    values: list[Any] = []
    conditions: list[str] = []

    def add(condition: str, value: Any) -> None:
        values.append(value)
        conditions.append(condition.format(f"${len(values)}"))

    if query.cursor is not None:
        add("id < {}", parse("delivery", query.cursor))
    if query.job_id is not None:
        add(f"job_id = {{}} AND type <> '{ALERT}'", query.job_id)  # which only names one
    if query.status is not None:
        add("status = {}", query.status)
    limit = query.limit + 1
    arms = []
    for column, value in _reached(actor):
        reached = list(conditions)
        if column:
            values.append(value)
            reached.append(f"{column} = ${len(values)}")
        where = f"WHERE {' AND '.join(reached)}" if reached else ""
        arms.append(f"(SELECT {_SHOWN} FROM deliveries {where} ORDER BY id DESC LIMIT {limit})")  # noqa: S608  ours
    rows = await plain.fetch(
        f"SELECT * FROM ({' UNION '.join(arms)}) d ORDER BY d.id DESC LIMIT {limit}",  # noqa: S608  ours
        *values,
    )
    page = [Delivery(**dict(row)) for row in rows[: query.limit]]
    return Page(data=page, next_cursor=show("delivery", page[-1].id) if len(rows) > query.limit else None)


async def redeliver(plain: Plain, delivery_id: UUID, *, actor: Actor) -> Delivery:
    """Send it again, for a day, whatever became of it: same id, same body. Raises NotFound, DeliveryErased."""
    caller = actor.caller
    user_id, team_id = (caller.user_id, caller.team_id) if caller else (None, None)
    who = (delivery_id, actor.role, user_id, team_id)
    row = await plain.fetchrow(_REDELIVER, *who)
    if row is None and await plain.fetchval(_IS_ERASED, *who):
        raise DeliveryErased("Its body was erased with the job's payload; there is nothing left to send.")
    return Delivery(**dict(row)) if row is not None else not_found()


def _reached(actor: Actor) -> list[tuple[str, UUID | None]]:
    """Whose deliveries an actor sees, as `(column, value)`, so that each arm has its index; '' is everything."""
    if actor.caller is None or actor.role == "admin":
        return [("", None)]
    own = ("user_id", actor.caller.user_id)
    return [("team_id", actor.caller.team_id), own] if actor.role == "lead" else [own]
