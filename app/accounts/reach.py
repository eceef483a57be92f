"""What each role may see, and whom it may act upon."""

from typing import Final, NoReturn
from uuid import UUID

from sqlalchemy import ColumnElement, true

from app.accounts.callers import Actor, Role, RoleForbidden
from app.accounts.tables import keys, users
from app.ids import parse
from app.problems import NotFound

_ABOVE_LEAD: Final = frozenset[Role]({"finance", "admin"})


def not_found() -> NoReturn:
    """Raise the one answer for what is not there and for what is not yours."""
    raise NotFound("Nothing of this id is here for your key to see; check both.")


def found_id(prefix: str, text: str) -> UUID:
    """The id in a path. What cannot be one is not there either: raises NotFound."""
    return parse(prefix, text) or not_found()


def visible_users(actor: Actor) -> ColumnElement[bool]:
    """The users that an actor sees: all, its team's, or itself."""
    if actor.caller is None or actor.role in {"admin", "finance"}:
        return true()
    if actor.role == "lead":
        return users.c.team_id == actor.caller.team_id
    return users.c.id == actor.caller.user_id


def visible_keys(actor: Actor) -> ColumnElement[bool]:
    """The keys that an actor sees, in a statement that joins `users`: all, its team's, or its own."""
    if actor.caller is None or actor.role == "admin":
        return true()
    if actor.role == "lead":
        return users.c.team_id == actor.caller.team_id
    return keys.c.user_id == actor.caller.user_id


def require_reach(actor: Actor, role: Role) -> None:
    """Raise RoleForbidden when a lead reaches for a key of a user whose role is above its own."""
    if actor.role == "lead" and role in _ABOVE_LEAD:
        raise RoleForbidden(
            ["admin"],
            f"This user's role is {role}: its keys can do more than yours, and only an admin handles them.",
        )
