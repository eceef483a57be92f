"""Where a team's alerts go: the URL, its shape, and the user whose webhook secret signs them."""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import or_, select

from app.accounts.callers import Actor
from app.accounts.shapes import Team
from app.accounts.tables import users
from app.db import Tx
from app.outward.targets import refusal_of
from app.problems import InvalidInput
from app.settings import Settings

FIELDS: Final = frozenset({"alert_url", "alert_shape", "alert_user_id"})
"""What a lead may change of its own team."""

_NOWHERE: Final = {"alert_url": None, "alert_shape": None, "alert_user_id": None}


def mask(url: str) -> str:
    """A URL without what makes it a secret, as everybody but the team's leads and admins is shown it."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}/…"


def masked(team: Team) -> Team:
    """The team as who may not know its alert URL sees it."""
    return team if team.alert_url is None else team.model_copy(update={"alert_url": mask(team.alert_url)})


async def complete(tx: Tx, was: Team, wanted: dict[str, Any], *, actor: Actor, settings: Settings) -> dict[str, Any]:
    """What the three columns become for the fields that a PATCH gave; nothing for one that gave none of them.

    A URL that is set is signed by whoever sets it, unless a user is named. Raises InvalidInput.
    """
    if not FIELDS & wanted.keys():
        return {}
    url: str | None = wanted.get("alert_url", was.alert_url)
    if url is None:
        if wanted.keys() & FIELDS - {"alert_url"}:
            raise _fault("alert_url", "must be set when the others are")
        return _NOWHERE
    if "alert_url" in wanted and (refusal := refusal_of(url, allow_private=settings.webhook_allow_private)):
        raise _fault("alert_url", refusal)
    shape = wanted.get("alert_shape") or was.alert_shape or "standard"
    if shape == "standard" and settings.secret_key is None:
        raise _fault("alert_shape", "this gateway signs no webhooks: whoever runs it must set SECRET_KEY first")
    user_id = wanted.get("alert_user_id")
    if user_id is not None:
        await _require_user(tx, user_id, was.id, actor)
    elif "alert_url" in wanted and actor.caller is not None:
        user_id = actor.caller.user_id
    user_id = user_id or was.alert_user_id
    if user_id is None:
        raise _fault("alert_user_id", "must name a user whose webhook secret signs: ADMIN_KEY stands for none")
    return {"alert_url": url, "alert_shape": shape, "alert_user_id": user_id}


async def _require_user(tx: Tx, user_id: UUID, team_id: UUID, actor: Actor) -> None:
    own = actor.caller.user_id if actor.caller is not None else None
    theirs = or_(users.c.team_id == team_id, users.c.id == own)
    if await tx.scalar(select(users.c.id).where(users.c.id == user_id, users.c.disabled_at.is_(None), theirs)) is None:
        raise _fault("alert_user_id", "must be a user of this team who is not disabled, or you")


def _fault(field: str, detail: str) -> InvalidInput:
    return InvalidInput([{"pointer": f"/{field}", "detail": detail}])
