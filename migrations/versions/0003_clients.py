"""fal's own protocol, files, the videos and their archive, logs, and forgetting.

Only adds, each column nullable or with a default: the previous release goes on working meanwhile.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_UP = """
ALTER TABLE jobs ADD COLUMN webhook_shape text, ADD COLUMN start_by timestamptz, ADD COLUMN fal_reply json,
    ADD COLUMN inference_seconds double precision, ADD COLUMN expires_at timestamptz,
    ADD COLUMN payload_erased_at timestamptz;
CREATE INDEX jobs_start_idx ON jobs (start_by) WHERE status = 'queued' AND start_by IS NOT NULL;

ALTER TABLE deliveries ADD COLUMN shape text;

CREATE TABLE direct_calls (
    job_id uuid NOT NULL,
    user_id uuid NOT NULL,
    key text NOT NULL,
    waited_by text,
    CONSTRAINT direct_calls_pkey PRIMARY KEY (job_id),
    CONSTRAINT direct_calls_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs (id)
);
CREATE INDEX direct_calls_user_id_key_idx ON direct_calls (user_id, key);

CREATE TABLE job_logs (
    job_id uuid NOT NULL,
    n integer NOT NULL,
    logged_at text,
    level text NOT NULL,
    source text NOT NULL,
    message text NOT NULL,
    CONSTRAINT job_logs_pkey PRIMARY KEY (job_id, n),
    CONSTRAINT job_logs_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs (id)
);

CREATE TABLE files (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    team_id uuid NOT NULL,
    key_id uuid NOT NULL,
    end_user text,
    name text NOT NULL,
    content_type text NOT NULL,
    size_bytes bigint,
    sha256 bytea,
    url text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT files_pkey PRIMARY KEY (id),
    CONSTRAINT files_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id)
);
CREATE INDEX files_user_id_idx ON files (user_id, id);

CREATE TABLE outputs (
    job_id uuid NOT NULL,
    url text NOT NULL,
    path text,
    content_type text,
    size_bytes bigint,
    sha256 bytea,
    tries integer NOT NULL DEFAULT 0,
    next_try_at timestamptz,
    stored_at timestamptz,
    error text,
    CONSTRAINT outputs_pkey PRIMARY KEY (job_id),
    CONSTRAINT outputs_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs (id)
);
CREATE INDEX outputs_due_idx ON outputs (next_try_at) WHERE next_try_at IS NOT NULL;

CREATE TABLE erasures (
    fal_request_id text NOT NULL,
    job_id uuid NOT NULL,
    fal_key_id text NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    next_try_at timestamptz,
    erased_at timestamptz,
    error text,
    CONSTRAINT erasures_pkey PRIMARY KEY (fal_request_id),
    CONSTRAINT erasures_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs (id)
);
CREATE INDEX erasures_due_idx ON erasures (next_try_at) WHERE next_try_at IS NOT NULL;

CREATE TABLE forgetting (
    only_row boolean NOT NULL DEFAULT true,
    through timestamptz,
    CONSTRAINT forgetting_pkey PRIMARY KEY (only_row),
    CONSTRAINT forgetting_only_row_check CHECK (only_row)
);
INSERT INTO forgetting DEFAULT VALUES
"""


def upgrade() -> None:
    """Add what is new."""
    for statement in _UP.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Take it away, and all that is in it."""
    op.execute("DROP TABLE forgetting, erasures, outputs, files, job_logs, direct_calls")
    op.execute("DROP INDEX jobs_start_idx")
    op.execute("ALTER TABLE deliveries DROP COLUMN shape")
    op.execute(
        "ALTER TABLE jobs DROP COLUMN webhook_shape, DROP COLUMN start_by, DROP COLUMN fal_reply, "
        "DROP COLUMN inference_seconds, DROP COLUMN expires_at, DROP COLUMN payload_erased_at"
    )
