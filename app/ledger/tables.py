"""The ledger's tables, as `migrations/` made them."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.db import MOMENT, MONEY, metadata

quotas = Table(
    "quotas",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("scope", Text, nullable=False),
    Column("scope_id", Text, nullable=False),  # '' is the default of each one that has none of its own
    Column("metric", Text, nullable=False),
    Column("window", Text),
    Column("maximum", MONEY, nullable=False),
    Column("created_at", MOMENT, nullable=False),
    Column("deleted_at", MOMENT),
    Column("alert_percents", ARRAY(SmallInteger), nullable=False, server_default=text("'{50,80,100}'")),
    PrimaryKeyConstraint("id", name="quotas_pkey"),
    CheckConstraint("scope IN ('organization', 'team', 'user', 'key', 'end_user')", name="quotas_scope_check"),
    CheckConstraint("metric IN ('usd', 'seconds', 'jobs', 'in_flight')", name="quotas_metric_check"),
    CheckConstraint("\"window\" IN ('minute', 'hour', 'day', 'week', 'month', 'lifetime')", name="quotas_window_check"),
    CheckConstraint("(metric = 'in_flight') = (\"window\" IS NULL)", name="quotas_in_flight_has_no_window_check"),
    CheckConstraint("scope <> 'organization' OR scope_id = ''", name="quotas_organization_has_no_scope_id_check"),
    CheckConstraint("maximum >= 0", name="quotas_maximum_check"),
    Index(
        "quotas_one_live_key",
        "scope",
        "scope_id",
        "metric",
        "window",
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=text("deleted_at IS NULL"),
    ),
)

quota_usage = Table(
    "quota_usage",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("quota_id", Uuid, nullable=False),
    Column("subject", Text, nullable=False),
    Column("starts_at", MOMENT, nullable=False),
    Column("ends_at", MOMENT),
    Column("used", MONEY, nullable=False, server_default="0"),
    Column("held", MONEY, nullable=False, server_default="0"),
    PrimaryKeyConstraint("id", name="quota_usage_pkey"),
    ForeignKeyConstraint(["quota_id"], ["quotas.id"], name="quota_usage_quota_id_fkey"),
    UniqueConstraint("quota_id", "subject", "starts_at", name="quota_usage_quota_id_subject_starts_at_key"),
    CheckConstraint("held >= 0", name="quota_usage_held_check"),
    Index("quota_usage_ends_at_idx", "ends_at"),
)

entries = Table(
    "entries",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("amount_usd", MONEY, nullable=False),
    Column("seconds", MONEY, nullable=False),
    Column("price_id", Uuid, nullable=False),
    Column("fal_units", MONEY),
    Column("resolves_id", Uuid),
    Column("mark", Text),
    Column("note", Text),
    Column("by", Text),
    Column("user_id", Uuid, nullable=False),
    Column("team_id", Uuid, nullable=False),
    Column("key_id", Uuid, nullable=False),
    Column("model", Text, nullable=False),
    Column("end_user", Text),
    Column("tags", JSONB, nullable=False),
    Column("booked_at", MOMENT, nullable=False),
    Column("job_status", Text),
    PrimaryKeyConstraint("id", name="entries_pkey"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], name="entries_job_id_fkey"),
    UniqueConstraint("job_id", "kind", "source", name="entries_job_id_kind_source_key"),
    CheckConstraint("kind IN ('hold', 'settle', 'void', 'overage', 'adjustment')", name="entries_kind_check"),
    CheckConstraint("mark IN ('differs', 'unstated')", name="entries_mark_check"),
    CheckConstraint("(kind IN ('settle', 'void')) = (resolves_id IS NOT NULL)", name="entries_resolves_check"),
    Index("entries_resolved_once_key", "job_id", unique=True, postgresql_where=text("resolves_id IS NOT NULL")),
    Index("entries_booked_at_idx", "booked_at"),
)


def _spend(period: str, name: str) -> Table:
    return Table(
        name,
        metadata,
        Column(period, Date, nullable=False),
        Column("team_id", Uuid, nullable=False),
        Column("user_id", Uuid, nullable=False),
        Column("key_id", Uuid, nullable=False),
        Column("model", Text, nullable=False),
        Column("charged_usd", MONEY, nullable=False),
        Column("seconds", MONEY, nullable=False),
        *(
            Column(count, BigInteger, nullable=False, server_default="0")
            for count in ("jobs", "succeeded", "failed", "canceled")
        ),
        PrimaryKeyConstraint(period, "team_id", "user_id", "key_id", "model", name=f"{name}_pkey"),
    )


spend_daily = _spend("day", "spend_daily")
spend_monthly = _spend("month", "spend_monthly")

books = Table(
    "books",
    metadata,
    Column("only_row", Boolean, nullable=False, server_default=text("true")),
    Column("open_since", MOMENT, nullable=False, server_default=text("'-infinity'")),
    Column("counted_until", MOMENT, nullable=False, server_default=text("now()")),
    PrimaryKeyConstraint("only_row", name="books_pkey"),
    CheckConstraint("only_row", name="books_only_row_check"),
)

closed_months = Table(
    "closed_months",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("month", Date, nullable=False),
    Column("starts_at", MOMENT, nullable=False),
    Column("ends_at", MOMENT, nullable=False),
    Column("charged_usd", MONEY, nullable=False),
    Column("seconds", MONEY, nullable=False),
    Column("jobs", BigInteger, nullable=False),
    Column("succeeded", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("canceled", BigInteger, nullable=False),
    Column("held_usd", MONEY, nullable=False),
    Column("held_jobs", BigInteger, nullable=False),
    Column("closed_at", MOMENT, nullable=False),
    Column("closed_by", Text, nullable=False),
    Column("reopened_at", MOMENT),
    Column("reopened_by", Text),
    Column("reopen_note", Text),
    PrimaryKeyConstraint("id", name="closed_months_pkey"),
    Index("closed_months_one_closed_key", "month", unique=True, postgresql_where=text("reopened_at IS NULL")),
)

refusals = Table(
    "refusals",
    metadata,
    Column("hour", MOMENT, nullable=False),
    Column("team_id", Uuid, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("code", Text, nullable=False),
    Column("quota_id", Uuid),
    Column("times", BigInteger, nullable=False),
    UniqueConstraint(
        "hour", "team_id", "user_id", "code", "quota_id", name="refusals_one_key", postgresql_nulls_not_distinct=True
    ),
)

quota_alerts = Table(
    "quota_alerts",
    metadata,
    Column("usage_id", Uuid, nullable=False),
    Column("percent", SmallInteger, nullable=False),
    Column("at", MOMENT, nullable=False),
    Column("delivery_id", Uuid),
    PrimaryKeyConstraint("usage_id", "percent", name="quota_alerts_pkey"),
    ForeignKeyConstraint(["usage_id"], ["quota_usage.id"], name="quota_alerts_usage_id_fkey"),
)
