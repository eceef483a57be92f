"""The table of videos, as `migrations/` made them."""

from sqlalchemy import (
    BigInteger,
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

outputs = Table(
    "outputs",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("url", Text, nullable=False),
    Column("path", Text),
    Column("content_type", Text),
    Column("size_bytes", BigInteger),
    Column("sha256", LargeBinary),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("next_try_at", MOMENT),
    Column("stored_at", MOMENT),
    Column("error", Text),
    PrimaryKeyConstraint("job_id", name="outputs_pkey"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], name="outputs_job_id_fkey"),
    Index("outputs_due_idx", "next_try_at", postgresql_where=text("next_try_at IS NOT NULL")),
)
