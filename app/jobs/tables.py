"""The jobs' tables, as `migrations/` made them."""

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.db import MOMENT, MONEY, metadata

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", Integer, nullable=False, server_default="1"),
    Column("model", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("input", JSON, nullable=False),
    Column("tags", JSONB, nullable=False, server_default="{}"),
    Column("end_user", Text),
    Column("seconds", MONEY, nullable=False),
    Column("quoted_usd", MONEY, nullable=False),
    Column("held_usd", MONEY, nullable=False),
    Column("charged_usd", MONEY),
    Column("price_id", Uuid, nullable=False),
    Column("quota_usage_ids", ARRAY(Uuid), nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("team_id", Uuid, nullable=False),
    Column("key_id", Uuid, nullable=False),
    Column("attempt_id", Uuid),
    Column("fal_request_id", Text),
    Column("queue_position", Integer),
    Column("output", JSON),
    Column("error", JSON),
    Column("next_check_at", MOMENT),
    Column("checks", Integer, nullable=False, server_default="0"),
    Column("gone_at", MOMENT),
    Column("cancel_requested_at", MOMENT),
    Column("created_at", MOMENT, nullable=False),
    Column("queued_at", MOMENT, nullable=False),
    Column("submitted_at", MOMENT),
    Column("started_at", MOMENT),
    Column("finished_at", MOMENT),
    Column("webhook_url", Text),
    Column("estimated_start_at", MOMENT),
    Column("webhook_shape", Text),
    Column("start_by", MOMENT),
    Column("fal_reply", JSON),
    Column("inference_seconds", Double),
    Column("expires_at", MOMENT),
    Column("payload_erased_at", MOMENT),
    PrimaryKeyConstraint("id", name="jobs_pkey"),
    CheckConstraint(
        "status IN ('queued', 'submitting', 'submitted', 'running', 'unconfirmed', 'succeeded', 'failed', 'canceled')",
        name="jobs_status_check",
    ),
    CheckConstraint(
        "(finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'canceled'))",
        name="jobs_finished_at_check",
    ),
    CheckConstraint("(finished_at IS NOT NULL) = (charged_usd IS NOT NULL)", name="jobs_charged_when_finished_check"),
    Index("jobs_user_id_idx", "user_id", "id"),
    Index("jobs_team_id_idx", "team_id", "id"),
    Index("jobs_end_user_idx", "end_user", "id", postgresql_where=text("end_user IS NOT NULL")),
    Index(
        "jobs_tags_idx",
        "tags",
        postgresql_using="gin",
        postgresql_ops={"tags": "jsonb_path_ops"},
        postgresql_where=text("tags <> '{}'"),
    ),
    Index("jobs_model_idx", "model", "id"),
    Index(
        "jobs_team_ended_badly_idx",
        "team_id",
        "id",
        postgresql_where=text("status IN ('failed', 'canceled')"),
    ),
    Index("jobs_ended_badly_idx", "status", "id", postgresql_where=text("status IN ('failed', 'canceled')")),
    Index("jobs_unfinished_idx", "id", postgresql_where=text("finished_at IS NULL")),
    Index("jobs_queued_idx", "next_check_at", postgresql_where=text("status = 'queued'")),
    Index(
        "jobs_tracked_idx",
        "next_check_at",
        postgresql_where=text("status IN ('submitting', 'submitted', 'running', 'unconfirmed')"),
    ),
    Index("jobs_start_idx", "start_by", postgresql_where=text("status = 'queued' AND start_by IS NOT NULL")),
    Index("jobs_release_idx", "team_id", "user_id", "id", postgresql_where=text("status = 'queued'")),
    Index(
        "jobs_finished_at_idx",
        "finished_at",
        postgresql_include=["model", "status"],
        postgresql_where=text("finished_at IS NOT NULL"),
    ),
    Index("jobs_gone_idx", "gone_at", postgresql_where=text("gone_at IS NOT NULL AND finished_at IS NULL")),
)

turns = Table(
    "turns",
    metadata,
    Column("subject_id", Uuid, nullable=False),
    Column("taken_at", MOMENT, nullable=False),
    PrimaryKeyConstraint("subject_id", name="turns_pkey"),
)

payloads = Table(
    "payloads",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("input", JSON, nullable=False),
    PrimaryKeyConstraint("job_id", name="payloads_pkey"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], name="payloads_job_id_fkey"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("user_id", Uuid, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("job_id", Uuid, nullable=False),
    PrimaryKeyConstraint("user_id", "key", name="idempotency_keys_pkey"),
)

direct_calls = Table(
    "direct_calls",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("user_id", Uuid, nullable=False),
    Column("key", Text, nullable=False),
    Column("waited_by", Text),
    PrimaryKeyConstraint("job_id", name="direct_calls_pkey"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], name="direct_calls_job_id_fkey"),
    Index("direct_calls_user_id_key_idx", "user_id", "key"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Uuid, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("sent_at", MOMENT, nullable=False),
    Column("fal_request_id", Text),
    Column("fal_key_id", Text, nullable=False),
    Column("outcome", Text),
    Column("status_path", Text),
    Column("result_path", Text),
    Column("cancel_path", Text),
    Column("stray_check_at", MOMENT),
    Column("start_seconds", Integer),
    Column("sent_from", MOMENT),
    Column("absent_at", MOMENT),
    PrimaryKeyConstraint("id", name="attempts_pkey"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], name="attempts_job_id_fkey"),
    UniqueConstraint("fal_request_id", name="attempts_fal_request_id_key"),
    Index("attempts_job_id_idx", "job_id"),
    Index("attempts_sent_at_idx", "sent_at", postgresql_using="brin"),
    Index("attempts_stray_idx", "stray_check_at", postgresql_where=text("stray_check_at IS NOT NULL")),
    Index(
        "attempts_lost_idx",
        "sent_at",
        postgresql_where=text("fal_request_id IS NULL AND outcome IN ('unknown', 'recovered')"),
    ),
)

fal_webhooks = Table(
    "fal_webhooks",
    metadata,
    Column("attempt_id", Uuid, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("fal_request_id", Text, nullable=False),
    Column("body", JSON, nullable=False),
    Column("received_at", MOMENT, nullable=False),
    PrimaryKeyConstraint("attempt_id", name="fal_webhooks_pkey"),
    ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fal_webhooks_attempt_id_fkey"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fal_webhooks_job_id_fkey"),
    Index("fal_webhooks_job_id_idx", "job_id"),
)

fal_accounts = Table(
    "fal_accounts",
    metadata,
    Column("fal_key_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("learnt_at", MOMENT, nullable=False),
    PrimaryKeyConstraint("fal_key_id", name="fal_accounts_pkey"),
)

upstream = Table(
    "upstream",
    metadata,
    Column("only_row", Boolean, nullable=False, server_default=text("true")),
    Column("degraded_since", MOMENT),
    Column("reason", Text),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("probe_after", MOMENT),
    Column("balance_usd", MONEY),
    Column("balance_read_at", MOMENT),
    Column("balance_warned_at", MOMENT),
    Column("breaker_at", MOMENT),
    Column("breaker_users_at", MOMENT),
    Column("breaker_users", Integer),
    PrimaryKeyConstraint("only_row", name="upstream_pkey"),
    CheckConstraint("only_row", name="upstream_only_row_check"),
)

ended_jobs = Table(
    "ended_jobs",
    metadata,
    Column("model", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("jobs", BigInteger, nullable=False),
    Column("through", MOMENT, nullable=False),
    PrimaryKeyConstraint("model", "status", name="ended_jobs_pkey"),
)

job_logs = Table(
    "job_logs",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("n", Integer, nullable=False),
    Column("logged_at", Text),
    Column("level", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("message", Text, nullable=False),
    PrimaryKeyConstraint("job_id", "n", name="job_logs_pkey"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], name="job_logs_job_id_fkey"),
)

erasures = Table(
    "erasures",
    metadata,
    Column("fal_request_id", Text, nullable=False),
    Column("job_id", Uuid, nullable=False),
    Column("fal_key_id", Text, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("next_try_at", MOMENT),
    Column("erased_at", MOMENT),
    Column("error", Text),
    PrimaryKeyConstraint("fal_request_id", name="erasures_pkey"),
    ForeignKeyConstraint(["job_id"], ["jobs.id"], name="erasures_job_id_fkey"),
    Index("erasures_due_idx", "next_try_at", postgresql_where=text("next_try_at IS NOT NULL")),
)

forgetting = Table(
    "forgetting",
    metadata,
    Column("only_row", Boolean, nullable=False, server_default=text("true")),
    Column("through", MOMENT),
    PrimaryKeyConstraint("only_row", name="forgetting_pkey"),
    CheckConstraint("only_row", name="forgetting_only_row_check"),
)
