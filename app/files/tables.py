"""The table of callers' files, as `migrations/` made them."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
)

from app.db import MOMENT, metadata

files = Table(
    "files",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("team_id", Uuid, nullable=False),
    Column("key_id", Uuid, nullable=False),
    Column("end_user", Text),
    Column("name", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("size_bytes", BigInteger),
    Column("sha256", LargeBinary),
    Column("url", Text, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    PrimaryKeyConstraint("id", name="files_pkey"),
    ForeignKeyConstraint(["user_id"], ["users.id"], name="files_user_id_fkey"),
    Index("files_user_id_idx", "user_id", "id"),
)
