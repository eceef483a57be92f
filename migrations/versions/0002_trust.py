"""Webhooks from fal and to callers, lost answers, fair release, and how fal is doing.

Only adds, each column nullable or with a default: the previous release goes on working meanwhile.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_UP = """
ALTER TABLE jobs ADD COLUMN webhook_url text, ADD COLUMN estimated_start_at timestamptz;
CREATE INDEX jobs_release_idx ON jobs (team_id, user_id, id) WHERE status = 'queued';

CREATE TABLE turns (
    subject_id uuid NOT NULL,
    taken_at timestamptz NOT NULL,
    CONSTRAINT turns_pkey PRIMARY KEY (subject_id)
) WITH (fillfactor = 50);

ALTER TABLE attempts ADD COLUMN start_seconds integer, ADD COLUMN sent_from timestamptz,
    ADD COLUMN absent_at timestamptz;
CREATE INDEX attempts_lost_idx ON attempts (sent_at)
    WHERE fal_request_id IS NULL AND outcome IN ('unknown', 'recovered');

CREATE TABLE fal_webhooks (
    attempt_id uuid NOT NULL,
    job_id uuid NOT NULL,
    fal_request_id text NOT NULL,
    body json NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT fal_webhooks_pkey PRIMARY KEY (attempt_id),
    CONSTRAINT fal_webhooks_attempt_id_fkey FOREIGN KEY (attempt_id) REFERENCES attempts (id),
    CONSTRAINT fal_webhooks_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs (id)
);
CREATE INDEX fal_webhooks_job_id_idx ON fal_webhooks (job_id);

CREATE TABLE fal_accounts (
    fal_key_id text NOT NULL,
    user_id text NOT NULL,
    learnt_at timestamptz NOT NULL,
    CONSTRAINT fal_accounts_pkey PRIMARY KEY (fal_key_id)
);

CREATE TABLE upstream (
    only_row boolean NOT NULL DEFAULT true,
    degraded_since timestamptz,
    reason text,
    failures integer NOT NULL DEFAULT 0,
    probe_after timestamptz,
    balance_usd numeric(20,9),
    balance_read_at timestamptz,
    balance_warned_at timestamptz,
    CONSTRAINT upstream_pkey PRIMARY KEY (only_row),
    CONSTRAINT upstream_only_row_check CHECK (only_row)
);
INSERT INTO upstream DEFAULT VALUES;

CREATE TABLE ended_jobs (
    model text NOT NULL,
    status text NOT NULL,
    jobs bigint NOT NULL,
    through timestamptz NOT NULL,
    CONSTRAINT ended_jobs_pkey PRIMARY KEY (model, status)
);
CREATE INDEX jobs_finished_at_idx ON jobs (finished_at) INCLUDE (model, status) WHERE finished_at IS NOT NULL;

CREATE TABLE webhook_secrets (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    CONSTRAINT webhook_secrets_pkey PRIMARY KEY (id),
    CONSTRAINT webhook_secrets_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id)
);
CREATE INDEX webhook_secrets_user_id_idx ON webhook_secrets (user_id);
CREATE UNIQUE INDEX webhook_secrets_one_current_key ON webhook_secrets (user_id) WHERE expires_at IS NULL;

CREATE TABLE deliveries (
    id uuid NOT NULL,
    job_id uuid NOT NULL,
    user_id uuid NOT NULL,
    team_id uuid NOT NULL,
    type text NOT NULL,
    url text NOT NULL,
    target text NOT NULL,
    body text NOT NULL,
    status text NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    next_try_at timestamptz,
    give_up_at timestamptz NOT NULL,
    response_status integer,
    error text,
    created_at timestamptz NOT NULL,
    tried_at timestamptz,
    delivered_at timestamptz,
    CONSTRAINT deliveries_pkey PRIMARY KEY (id),
    CONSTRAINT deliveries_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs (id),
    CONSTRAINT deliveries_status_check CHECK (status IN ('pending', 'delivered', 'failed')),
    CONSTRAINT deliveries_pending_is_due_check CHECK ((status = 'pending') = (next_try_at IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX deliveries_due_idx ON deliveries (target, next_try_at) WHERE status = 'pending';
CREATE INDEX deliveries_user_id_idx ON deliveries (user_id, id);
CREATE INDEX deliveries_team_id_idx ON deliveries (team_id, id);
CREATE INDEX deliveries_job_id_idx ON deliveries (job_id)
"""


def upgrade() -> None:
    """Add what is new."""
    for statement in _UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Take it away, and all that is in it."""
    op.execute("DROP TABLE deliveries, webhook_secrets, ended_jobs, upstream, fal_accounts, fal_webhooks, turns")
    op.execute("DROP INDEX attempts_lost_idx, jobs_release_idx, jobs_finished_at_idx")
    op.execute("ALTER TABLE attempts DROP COLUMN start_seconds, DROP COLUMN sent_from, DROP COLUMN absent_at")
    op.execute("ALTER TABLE jobs DROP COLUMN webhook_url, DROP COLUMN estimated_start_at")
