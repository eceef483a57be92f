"""Who may see a job: the boundary between callers, written once."""

from typing import Final
from uuid import UUID

from app.accounts.callers import CALLER_FROM, Caller, sql_caller, sql_live

NOT_FOUND_DETAIL: Final = "No job of this id is yours to see; check the id and the key."
"""The one answer for what is not there and for what is another's."""


def sql_visible(*, user: str, role: str, team: str) -> str:
    """The SQL that says whether a caller may see the row `j` of jobs: its own; a lead its team's; two roles all."""
    return f"(j.user_id = {user} OR {role} IN ('finance', 'admin') OR ({role} = 'lead' AND j.team_id = {team}))"


def sql_reached(now: str) -> str:
    """What follows `FROM … AS r (hash, job_id, …)` in a statement that reads jobs for whoever asks; `now` is `$3`, say.

    `c` is the live caller whose secret has the hash `r.hash` (`sql_caller`), `j` the row `r.job_id` of jobs if that
    caller may see it; each NULL where there is none. It ends in a condition on `j`: another may follow with AND.
    """
    return f"""LEFT JOIN LATERAL (
    SELECT {sql_caller(now)} FROM {CALLER_FROM} WHERE s.hash = r.hash AND {sql_live(now)}
) c ON true
LEFT JOIN jobs j ON j.id = r.job_id AND {sql_visible(user="c.user_id", role="c.role", team="c.team_id")}"""  # noqa: S608


def listed_by(caller: Caller) -> list[tuple[str, UUID | None]]:
    """The same for lists, as `(column, value)` to search by, so that each arm has its index; '' is everything."""
    match caller.role:
        case "admin" | "finance":
            return [("", None)]
        case "lead":
            return [("team_id", caller.team_id), ("user_id", caller.user_id)]
        case _:
            return [("user_id", caller.user_id)]
