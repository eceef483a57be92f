"""The tables of deliveries, as `migrations/` made them."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)

from app.db import MOMENT, metadata

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    Column("expires_at", MOMENT),
    PrimaryKeyConstraint("id", name="webhook_secrets_pkey"),
    ForeignKeyConstraint(["user_id"], ["users.id"], name="webhook_secrets_user_id_fkey"),
    Index("webhook_secrets_user_id_idx", "user_id"),
    Index("webhook_secrets_one_current_key", "user_id", unique=True, postgresql_where=text("expires_at IS NULL")),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("team_id", Uuid, nullable=False),
    Column("type", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("next_try_at", MOMENT),
    Column("give_up_at", MOMENT, nullable=False),
    Column("response_status", Integer),
    Column("error", Text),
    Column("created_at", MOMENT, nullable=False),
    Column("tried_at", MOMENT),
    Column("delivered_at", MOMENT),
    Column("shape", Text),
    PrimaryKeyConstraint("id", name="deliveries_pkey"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], name="deliveries_job_id_fkey"),
    CheckConstraint("status IN ('pending', 'delivered', 'failed')", name="deliveries_status_check"),
    CheckConstraint("(status = 'pending') = (next_try_at IS NOT NULL)", name="deliveries_pending_is_due_check"),
    Index("deliveries_due_idx", "target", "next_try_at", postgresql_where=text("status = 'pending'")),
    Index("deliveries_user_id_idx", "user_id", "id"),
    Index("deliveries_team_id_idx", "team_id", "id"),
    Index("deliveries_job_id_idx", "job_id"),
)
