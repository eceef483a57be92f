"""Whose entries and refusals somebody sees in a report; whose jobs, `app.jobs.reads.reach` says."""

from uuid import UUID

from app.accounts.callers import Actor


def seen_by(actor: Actor) -> tuple[str, UUID] | None:
    """The column to search by, and its value: a member's own, a lead's team's; None: finance and admin see all."""
    if actor.caller is None or actor.role in {"admin", "finance"}:
        return None
    return ("team_id", actor.caller.team_id) if actor.role == "lead" else ("user_id", actor.caller.user_id)
