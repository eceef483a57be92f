"""The foundation: accounts, catalogue prices, ledger and jobs."""

from collections.abc import Sequence

from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# Why jobs and entries carry no foreign keys to team, user, key or price: none of those rows is ever deleted, and a
# foreign key would lock the same few rows FOR KEY SHARE in every submit.

_UP = """
CREATE TABLE installation (
    only_row boolean NOT NULL DEFAULT true,
    is_sandbox boolean NOT NULL,
    timezone text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT installation_pkey PRIMARY KEY (only_row),
    CONSTRAINT installation_only_row_check CHECK (only_row)
);

CREATE TABLE teams (
    id uuid NOT NULL,
    name text NOT NULL,
    external_id text,
    archived_at timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT teams_pkey PRIMARY KEY (id),
    CONSTRAINT teams_name_key UNIQUE (name),
    CONSTRAINT teams_external_id_key UNIQUE (external_id)
);

CREATE TABLE users (
    id uuid NOT NULL,
    team_id uuid NOT NULL,
    name text NOT NULL,
    email text,
    role text NOT NULL,
    external_id text,
    disabled_at timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams (id),
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_external_id_key UNIQUE (external_id),
    CONSTRAINT users_role_check CHECK (role IN ('member', 'lead', 'finance', 'admin'))
);
CREATE INDEX users_team_id_idx ON users (team_id, id);

CREATE TABLE keys (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    name text NOT NULL,
    prefix text NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT keys_pkey PRIMARY KEY (id),
    CONSTRAINT keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id)
) WITH (fillfactor = 80);
CREATE INDEX keys_user_id_idx ON keys (user_id, id);

CREATE TABLE key_secrets (
    hash bytea NOT NULL,
    key_id uuid NOT NULL,
    expires_at timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT key_secrets_pkey PRIMARY KEY (hash),
    CONSTRAINT key_secrets_key_id_fkey FOREIGN KEY (key_id) REFERENCES keys (id)
);
CREATE INDEX key_secrets_key_id_idx ON key_secrets (key_id);

CREATE TABLE audit_log (
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    object_id text NOT NULL,
    before jsonb,
    after jsonb,
    CONSTRAINT audit_log_pkey PRIMARY KEY (id)
);

CREATE TABLE prices (
    id uuid NOT NULL,
    endpoint text NOT NULL,
    "when" jsonb NOT NULL,
    base_seconds numeric(20,9) NOT NULL,
    base_usd numeric(20,9) NOT NULL,
    usd_per_second numeric(20,9) NOT NULL,
    starts_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT prices_pkey PRIMARY KEY (id),
    CONSTRAINT prices_endpoint_when_starts_at_key UNIQUE (endpoint, "when", starts_at),
    CONSTRAINT prices_figures_check CHECK (base_seconds >= 0 AND base_usd >= 0 AND usd_per_second >= 0)
);

CREATE TABLE quotas (
    id uuid NOT NULL,
    scope text NOT NULL,
    scope_id text NOT NULL,
    metric text NOT NULL,
    "window" text,
    maximum numeric(20,9) NOT NULL,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT quotas_pkey PRIMARY KEY (id),
    CONSTRAINT quotas_scope_check CHECK (scope IN ('organization', 'team', 'user', 'key', 'end_user')),
    CONSTRAINT quotas_metric_check CHECK (metric IN ('usd', 'seconds', 'jobs', 'in_flight')),
    CONSTRAINT quotas_window_check
        CHECK ("window" IN ('minute', 'hour', 'day', 'week', 'month', 'lifetime')),
    CONSTRAINT quotas_in_flight_has_no_window_check CHECK ((metric = 'in_flight') = ("window" IS NULL)),
    CONSTRAINT quotas_organization_has_no_scope_id_check CHECK (scope <> 'organization' OR scope_id = ''),
    CONSTRAINT quotas_maximum_check CHECK (maximum >= 0)
);
CREATE UNIQUE INDEX quotas_one_live_key ON quotas (scope, scope_id, metric, "window") NULLS NOT DISTINCT
    WHERE deleted_at IS NULL;

CREATE TABLE quota_usage (
    id uuid NOT NULL,
    quota_id uuid NOT NULL,
    subject text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz,
    used numeric(20,9) NOT NULL DEFAULT 0,
    held numeric(20,9) NOT NULL DEFAULT 0,
    CONSTRAINT quota_usage_pkey PRIMARY KEY (id),
    CONSTRAINT quota_usage_quota_id_fkey FOREIGN KEY (quota_id) REFERENCES quotas (id),
    CONSTRAINT quota_usage_quota_id_subject_starts_at_key UNIQUE (quota_id, subject, starts_at),
    CONSTRAINT quota_usage_held_check CHECK (held >= 0)
) WITH (fillfactor = 50);

CREATE TABLE jobs (
    id uuid NOT NULL,
    status text NOT NULL,
    version integer NOT NULL DEFAULT 1,
    model text NOT NULL,
    endpoint text NOT NULL,
    input json NOT NULL,
    tags jsonb NOT NULL DEFAULT '{}',
    end_user text,
    seconds numeric(20,9) NOT NULL,
    quoted_usd numeric(20,9) NOT NULL,
    held_usd numeric(20,9) NOT NULL,
    charged_usd numeric(20,9),
    price_id uuid NOT NULL,
    quota_usage_ids uuid[] NOT NULL,
    user_id uuid NOT NULL,
    team_id uuid NOT NULL,
    key_id uuid NOT NULL,
    attempt_id uuid,
    fal_request_id text,
    queue_position integer,
    output json,
    error json,
    next_check_at timestamptz,
    checks integer NOT NULL DEFAULT 0,
    gone_at timestamptz,
    cancel_requested_at timestamptz,
    created_at timestamptz NOT NULL,
    queued_at timestamptz NOT NULL,
    submitted_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT jobs_pkey PRIMARY KEY (id),
    CONSTRAINT jobs_status_check CHECK (status IN ('queued', 'submitting', 'submitted', 'running', 'unconfirmed',
                                                   'succeeded', 'failed', 'canceled')),
    CONSTRAINT jobs_finished_at_check
        CHECK ((finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'canceled'))),
    CONSTRAINT jobs_charged_when_finished_check CHECK ((finished_at IS NOT NULL) = (charged_usd IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX jobs_user_id_idx ON jobs (user_id, id);
CREATE INDEX jobs_team_id_idx ON jobs (team_id, id);
CREATE INDEX jobs_end_user_idx ON jobs (end_user, id) WHERE end_user IS NOT NULL;
CREATE INDEX jobs_tags_idx ON jobs USING gin (tags jsonb_path_ops) WHERE tags <> '{}';
CREATE INDEX jobs_model_idx ON jobs (model, id);
CREATE INDEX jobs_team_ended_badly_idx ON jobs (team_id, id) WHERE status IN ('failed', 'canceled');
CREATE INDEX jobs_ended_badly_idx ON jobs (status, id) WHERE status IN ('failed', 'canceled');
CREATE INDEX jobs_unfinished_idx ON jobs (id) WHERE finished_at IS NULL;
CREATE INDEX jobs_queued_idx ON jobs (next_check_at) WHERE status = 'queued';
CREATE INDEX jobs_tracked_idx ON jobs (next_check_at)
    WHERE status IN ('submitting', 'submitted', 'running', 'unconfirmed');
CREATE INDEX jobs_gone_idx ON jobs (gone_at) WHERE gone_at IS NOT NULL AND finished_at IS NULL;

CREATE TABLE payloads (
    job_id uuid NOT NULL,
    input json NOT NULL,
    CONSTRAINT payloads_pkey PRIMARY KEY (job_id),
    CONSTRAINT payloads_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs (id)
);

CREATE TABLE idempotency_keys (
    user_id uuid NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    job_id uuid NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, key)
);

CREATE TABLE attempts (
    id uuid NOT NULL,
    job_id uuid NOT NULL,
    sent_at timestamptz NOT NULL,
    fal_request_id text,
    fal_key_id text NOT NULL,
    outcome text,
    status_path text,
    result_path text,
    cancel_path text,
    stray_check_at timestamptz,
    CONSTRAINT attempts_pkey PRIMARY KEY (id),
    CONSTRAINT attempts_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs (id),
    CONSTRAINT attempts_fal_request_id_key UNIQUE (fal_request_id)
) WITH (fillfactor = 80);
CREATE INDEX attempts_job_id_idx ON attempts (job_id);
CREATE INDEX attempts_stray_idx ON attempts (stray_check_at) WHERE stray_check_at IS NOT NULL;

CREATE TABLE entries (
    id uuid NOT NULL,
    job_id uuid NOT NULL,
    kind text NOT NULL,
    source text NOT NULL,
    amount_usd numeric(20,9) NOT NULL,
    seconds numeric(20,9) NOT NULL,
    price_id uuid NOT NULL,
    fal_units numeric(20,9),
    resolves_id uuid,
    mark text,
    note text,
    by text,
    user_id uuid NOT NULL,
    team_id uuid NOT NULL,
    key_id uuid NOT NULL,
    model text NOT NULL,
    end_user text,
    tags jsonb NOT NULL,
    booked_at timestamptz NOT NULL,
    CONSTRAINT entries_pkey PRIMARY KEY (id),
    CONSTRAINT entries_job_id_fkey FOREIGN KEY (job_id) REFERENCES jobs (id),
    CONSTRAINT entries_job_id_kind_source_key UNIQUE (job_id, kind, source),
    CONSTRAINT entries_kind_check CHECK (kind IN ('hold', 'settle', 'void', 'overage', 'adjustment')),
    CONSTRAINT entries_mark_check CHECK (mark IN ('differs', 'unstated')),
    CONSTRAINT entries_resolves_check CHECK ((kind IN ('settle', 'void')) = (resolves_id IS NOT NULL))
);
CREATE UNIQUE INDEX entries_resolved_once_key ON entries (job_id) WHERE resolves_id IS NOT NULL;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE ON entries
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER entries_never_truncated BEFORE TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_log_never_truncated BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE spend_daily (
    day date NOT NULL,
    team_id uuid NOT NULL,
    user_id uuid NOT NULL,
    key_id uuid NOT NULL,
    model text NOT NULL,
    charged_usd numeric(20,9) NOT NULL,
    seconds numeric(20,9) NOT NULL,
    CONSTRAINT spend_daily_pkey PRIMARY KEY (day, team_id, user_id, key_id, model)
) WITH (fillfactor = 70)
"""

_TABLES = (
    "spend_daily, entries, attempts, idempotency_keys, payloads, jobs, quota_usage, quotas, prices, audit_log, "
    "key_secrets, keys, users, teams, installation"
)


def upgrade() -> None:
    """Make every table."""
    for statement in _statements(_UP):
        op.execute(statement)


def downgrade() -> None:
    """Drop every table, and all that is in them."""
    op.execute(f"DROP TABLE {_TABLES}")
    op.execute("DROP FUNCTION refuse_change()")


def _statements(script: str) -> list[str]:
    """The driver takes one statement at a time; a function's body is kept whole."""
    parts: list[str] = []
    for piece in script.split(";\n"):
        if parts and parts[-1].count("$$") % 2:
            parts[-1] += ";\n" + piece
        else:
            parts.append(piece)
    return [part for part in parts if part.strip()]
