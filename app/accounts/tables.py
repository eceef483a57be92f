"""The tables of this room, as the migrations leave them."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.db import MOMENT, metadata

teams = Table(
    "teams",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("external_id", Text),
    Column("archived_at", MOMENT),
    Column("created_at", MOMENT, nullable=False),
    Column("alert_url", Text),
    Column("alert_shape", Text),
    Column("alert_user_id", Uuid),
    PrimaryKeyConstraint("id", name="teams_pkey"),
    UniqueConstraint("name", name="teams_name_key"),
    UniqueConstraint("external_id", name="teams_external_id_key"),
)

users = Table(
    "users",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("team_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("email", Text),
    Column("role", Text, nullable=False),
    Column("external_id", Text),
    Column("disabled_at", MOMENT),
    Column("created_at", MOMENT, nullable=False),
    PrimaryKeyConstraint("id", name="users_pkey"),
    ForeignKeyConstraint(["team_id"], ["teams.id"], name="users_team_id_fkey"),
    UniqueConstraint("email", name="users_email_key"),
    UniqueConstraint("external_id", name="users_external_id_key"),
    CheckConstraint("role IN ('member', 'lead', 'finance', 'admin')", name="users_role_check"),
    Index("users_team_id_idx", "team_id", "id"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("expires_at", MOMENT),
    Column("revoked_at", MOMENT),
    Column("last_used_at", MOMENT),
    Column("created_at", MOMENT, nullable=False),
    PrimaryKeyConstraint("id", name="keys_pkey"),
    ForeignKeyConstraint(["user_id"], ["users.id"], name="keys_user_id_fkey"),
    Index("keys_user_id_idx", "user_id", "id"),
    postgresql_with={"fillfactor": 80},
)

key_secrets = Table(
    "key_secrets",
    metadata,
    Column("hash", LargeBinary, nullable=False),
    Column("key_id", Uuid, nullable=False),
    Column("expires_at", MOMENT),
    Column("created_at", MOMENT, nullable=False),
    PrimaryKeyConstraint("hash", name="key_secrets_pkey"),
    ForeignKeyConstraint(["key_id"], ["keys.id"], name="key_secrets_key_id_fkey"),
    Index("key_secrets_key_id_idx", "key_id"),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("at", MOMENT, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    Column("before", JSONB(none_as_null=True)),
    Column("after", JSONB(none_as_null=True)),
    PrimaryKeyConstraint("id", name="audit_log_pkey"),
)

freezes = Table(
    "freezes",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("scope", Text, nullable=False),
    Column("scope_id", Text, nullable=False),  # '' is everybody
    Column("note", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("by_role", Text, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    Column("lifted_at", MOMENT),
    Column("lifted_by", Text),
    PrimaryKeyConstraint("id", name="freezes_pkey"),
    CheckConstraint("scope IN ('organization', 'team', 'user', 'key')", name="freezes_scope_check"),
    Index("freezes_one_live_key", "scope", "scope_id", unique=True, postgresql_where=text("lifted_at IS NULL")),
)
