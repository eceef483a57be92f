"""Who may see a job: the boundary between callers, written once."""

from typing import Final
from uuid import UUID

from app.accounts.callers import Caller

NOT_FOUND_DETAIL: Final = "No job of this id is yours to see; check the id and the key."
"""The one answer for what is not there and for what is another's."""


def sql_visible(*, user: str, role: str, team: str) -> str:
    """The SQL that says whether a caller may see the row `j` of jobs: its own; a lead its team's; two roles all."""
    return f"(j.user_id = {user} OR {role} IN ('finance', 'admin') OR ({role} = 'lead' AND j.team_id = {team}))"


def listed_by(caller: Caller) -> list[tuple[str, UUID | None]]:
    """The same for lists, as `(column, value)` to search by, so that each arm has its index; '' is everything."""
    match caller.role:
        case "admin" | "finance":
            return [("", None)]
        case "lead":
            return [("team_id", caller.team_id), ("user_id", caller.user_id)]
        case _:
            return [("user_id", caller.user_id)]
