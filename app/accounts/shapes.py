"""What stands on the wire: the bodies that routes of this room take, and the objects they answer with."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.accounts.callers import Role
from app.accounts.fields import ABSENT, Email, ExternalId, Moment, Name
from app.http import Body, ListQuery, is_cursor
from app.ids import AuditId, FreezeId, KeyId, TeamId, UserId

MAX_GRACE_SECONDS: Final = 30 * 86400

AlertShape = Literal["standard", "slack"]
Flag = Annotated[bool, Field(strict=True)]
_CURSOR: Final[Any] = Field(description="`next_cursor` of the page before.", max_length=200)


class _Shown(BaseModel):
    """An object that is answered."""

    model_config = ConfigDict(hide_input_in_errors=True)


class TeamBody(Body):
    """A cost centre."""

    name: Annotated[Name, Field(description="Unique.", examples=["Film"])]
    external_id: ExternalId | None = None


class TeamPatch(Body):
    """What to change; what is left out stays as it is."""

    name: Name = ABSENT
    external_id: ExternalId | None = None
    archived: Annotated[Flag, Field(description="An archived team's keys are refused.")] = ABSENT
    alert_url: Annotated[
        str | None, Field(max_length=2000, description="Where alerts about its quotas go; null: nowhere.")
    ] = None
    alert_shape: Annotated[AlertShape, Field(description="standard (Standard Webhooks, signed), or slack.")] = ABSENT
    alert_user_id: Annotated[
        UserId, Field(description="Whose webhook secret signs: a user of the team. Left out: whoever sets the URL.")
    ] = ABSENT


class Team(_Shown):
    """A cost centre. A team is never deleted, only archived."""

    id: TeamId
    name: str
    external_id: str | None
    archived_at: Moment | None
    created_at: Moment
    alert_url: Annotated[str | None, Field(description="Whole for the team's leads and for admins.")]
    alert_shape: AlertShape | None
    alert_user_id: UserId | None


class UserBody(Body):
    """A person or a service account."""

    name: Annotated[Name, Field(examples=["Ann"])]
    team_id: TeamId
    email: Email | None = None
    role: Role = "member"
    external_id: ExternalId | None = None


class UserPatch(Body):
    """What to change; what is left out stays as it is."""

    name: Name = ABSENT
    team_id: Annotated[TeamId, Field(description="Jobs keep the team they were made in.")] = ABSENT
    email: Email | None = None
    role: Role = ABSENT
    external_id: ExternalId | None = None
    disabled: Annotated[Flag, Field(description="A disabled user's keys are refused.")] = ABSENT


class User(_Shown):
    """A person or a service account. A user is never deleted, only disabled."""

    id: UserId
    team_id: TeamId
    name: str
    email: str | None
    role: Role
    external_id: str | None
    disabled_at: Moment | None
    created_at: Moment


class KeyBody(Body):
    """A key of a user; it can do whatever its user's role can."""

    user_id: UserId
    name: Annotated[Name, Field(description="What it is for.", examples=["render farm"])]
    expires_at: Annotated[Moment | None, Field(description="In the future; null: never.")] = None


class KeyPatch(Body):
    """What to change; what is left out stays as it is."""

    name: Name = ABSENT


class KeyRotation(Body):
    """How long the old secret goes on working beside the new one."""

    grace_seconds: Annotated[int, Field(strict=True, ge=0, le=MAX_GRACE_SECONDS)] = 0


class Key(_Shown):
    """A key; its secret is shown once, when it is made or rotated."""

    id: KeyId
    prefix: Annotated[str, Field(description="The first characters of its secret.")]
    user_id: UserId
    name: str
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Annotated[Moment | None, Field(description="To the minute.")]
    created_at: Moment


class MadeKey(Key):
    """A key with its secret, which is shown this once and cannot be read again."""

    secret: Annotated[str, Field(repr=False, examples=["fg_…"])]


class AuditEntry(_Shown):
    """One change: who, when, what, from what, to what."""

    id: AuditId
    at: Moment
    actor: Annotated[str, Field(description="`user_…/key_…`, `ADMIN_KEY` or `command line`.")]
    action: Annotated[str, Field(examples=["user.changed"])]
    object_id: str
    before: Annotated[dict[str, Any] | None, Field(description="What changed, as it was; null if it is new.")]
    after: Annotated[dict[str, Any] | None, Field(description="What changed, as it is now.")]


class TeamQuery(ListQuery):
    """Which teams."""

    cursor: Annotated[str | None, _CURSOR, is_cursor("team")] = None
    external_id: ExternalId | None = None


class UserQuery(ListQuery):
    """Which users."""

    cursor: Annotated[str | None, _CURSOR, is_cursor("user")] = None
    team_id: TeamId | None = None
    role: Role | None = None
    email: Email | None = None
    external_id: ExternalId | None = None


class KeyQuery(ListQuery):
    """Which keys."""

    cursor: Annotated[str | None, _CURSOR, is_cursor("key")] = None
    user_id: UserId | None = None
    team_id: TeamId | None = None


class AuditQuery(ListQuery):
    """Which entries of the audit log; `since` is included, `until` is not."""

    cursor: Annotated[str | None, _CURSOR, is_cursor("audit")] = None
    object_id: Annotated[Name | None, Field(examples=["team_0190f5c4a8b07d3e9b1f2a3c4d5e6f70"])] = None
    action: Name | None = None
    since: Moment | None = None
    until: Moment | None = None


FreezeScope = Literal["organization", "team", "user", "key"]


class FreezeBody(Body):
    """Whom to freeze, and why; everybody it covers is told why."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"scope": "user", "scope_id": "user_…", "note": "a loop bought 300 videos"}]}
    )

    scope: FreezeScope
    scope_id: Annotated[
        str | None,
        Field(max_length=128, description="The team's, user's or key's id; left out for the organization."),
    ] = None
    note: Annotated[Name, Field(description="Why.")]


class Freeze(_Shown):
    """Somebody who may ask for no job until it is lifted."""

    id: FreezeId
    scope: FreezeScope
    scope_id: str | None
    note: str
    by: Annotated[str, Field(description="`user_…/key_…` or `ADMIN_KEY`.")]
    created_at: Moment
    lifted_at: Moment | None
    lifted_by: str | None


class FreezeQuery(ListQuery):
    """Which freezes."""

    cursor: Annotated[str | None, _CURSOR, is_cursor("freeze")] = None
    scope: FreezeScope | None = None
    lifted: Annotated[bool | None, Field(description="Left out: both.")] = None
