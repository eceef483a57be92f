"""Where the money went: sums by day and month, closed months, fal's bills, refusals, alerts, freezes.

Only adds, each column nullable or with a default: the previous release goes on working meanwhile. What it ends
meanwhile is counted by this one some minutes later (app/ledger/older_release.py).
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_UP = """
ALTER TABLE entries ADD COLUMN job_status text;
CREATE INDEX entries_booked_at_idx ON entries (booked_at);
CREATE INDEX attempts_sent_at_idx ON attempts USING brin (sent_at) WITH (pages_per_range = 32, autosummarize = on);

ALTER TABLE spend_daily ADD COLUMN jobs bigint NOT NULL DEFAULT 0, ADD COLUMN succeeded bigint NOT NULL DEFAULT 0,
    ADD COLUMN failed bigint NOT NULL DEFAULT 0, ADD COLUMN canceled bigint NOT NULL DEFAULT 0;

CREATE TABLE spend_monthly (
    month date NOT NULL,
    team_id uuid NOT NULL,
    user_id uuid NOT NULL,
    key_id uuid NOT NULL,
    model text NOT NULL,
    charged_usd numeric(20,9) NOT NULL,
    seconds numeric(20,9) NOT NULL,
    jobs bigint NOT NULL DEFAULT 0,
    succeeded bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    canceled bigint NOT NULL DEFAULT 0,
    CONSTRAINT spend_monthly_pkey PRIMARY KEY (month, team_id, user_id, key_id, model)
) WITH (fillfactor = 70);

CREATE TABLE books (
    only_row boolean NOT NULL DEFAULT true,
    open_since timestamptz NOT NULL DEFAULT '-infinity',
    counted_until timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT books_pkey PRIMARY KEY (only_row),
    CONSTRAINT books_only_row_check CHECK (only_row)
);
INSERT INTO books DEFAULT VALUES;

CREATE TABLE closed_months (
    id uuid NOT NULL,
    month date NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    charged_usd numeric(20,9) NOT NULL,
    seconds numeric(20,9) NOT NULL,
    jobs bigint NOT NULL,
    succeeded bigint NOT NULL,
    failed bigint NOT NULL,
    canceled bigint NOT NULL,
    held_usd numeric(20,9) NOT NULL,
    held_jobs bigint NOT NULL,
    closed_at timestamptz NOT NULL,
    closed_by text NOT NULL,
    reopened_at timestamptz,
    reopened_by text,
    reopen_note text,
    CONSTRAINT closed_months_pkey PRIMARY KEY (id)
);
CREATE UNIQUE INDEX closed_months_one_closed_key ON closed_months (month) WHERE reopened_at IS NULL;

CREATE TABLE fal_bills (
    fal_request_id text NOT NULL,
    billed_at timestamptz NOT NULL,
    n integer NOT NULL,
    endpoint text NOT NULL,
    units numeric(20,9),
    unit_price_usd numeric(20,9),
    usd numeric(20,9) NOT NULL,
    paid_with text,
    read_at timestamptz NOT NULL,
    CONSTRAINT fal_bills_pkey PRIMARY KEY (fal_request_id, billed_at, n)
);
CREATE INDEX fal_bills_billed_at_idx ON fal_bills (billed_at);

CREATE TABLE reconciliations (
    id uuid NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    by text NOT NULL,
    figures jsonb,
    error text,
    CONSTRAINT reconciliations_pkey PRIMARY KEY (id)
);

CREATE TABLE refusals (
    hour timestamptz NOT NULL,
    team_id uuid NOT NULL,
    user_id uuid NOT NULL,
    code text NOT NULL,
    quota_id uuid,
    times bigint NOT NULL,
    CONSTRAINT refusals_one_key UNIQUE NULLS NOT DISTINCT (hour, team_id, user_id, code, quota_id)
) WITH (fillfactor = 70);

ALTER TABLE teams ADD COLUMN alert_url text, ADD COLUMN alert_shape text, ADD COLUMN alert_user_id uuid;
ALTER TABLE quotas ADD COLUMN alert_percents smallint[] NOT NULL DEFAULT '{50,80,100}';
CREATE INDEX quota_usage_ends_at_idx ON quota_usage (ends_at);
CREATE TABLE quota_alerts (
    usage_id uuid NOT NULL,
    percent smallint NOT NULL,
    at timestamptz NOT NULL,
    delivery_id uuid,
    CONSTRAINT quota_alerts_pkey PRIMARY KEY (usage_id, percent),
    CONSTRAINT quota_alerts_usage_id_fkey FOREIGN KEY (usage_id) REFERENCES quota_usage (id)
);

ALTER TABLE upstream ADD COLUMN breaker_at timestamptz, ADD COLUMN breaker_users_at timestamptz,
    ADD COLUMN breaker_users integer;
CREATE TABLE freezes (
    id uuid NOT NULL,
    scope text NOT NULL,
    scope_id text NOT NULL,
    note text NOT NULL,
    by text NOT NULL,
    by_role text NOT NULL,
    created_at timestamptz NOT NULL,
    lifted_at timestamptz,
    lifted_by text,
    CONSTRAINT freezes_pkey PRIMARY KEY (id),
    CONSTRAINT freezes_scope_check CHECK (scope IN ('organization', 'team', 'user', 'key'))
);
CREATE UNIQUE INDEX freezes_one_live_key ON freezes (scope, scope_id) WHERE lifted_at IS NULL
"""

# What BI tools read: a role that may read these and nothing else needs no right on any table, since a view reads with
# its owner's rights. Whoever changes a column that stands in one drops the view and makes it anew.
_NAMES = """
    'team_' || replace({0}.team_id::text, '-', '') AS team_id, t.name AS team_name,
    'user_' || replace({0}.user_id::text, '-', '') AS user_id, u.name AS user_name,
    'key_' || replace({0}.key_id::text, '-', '') AS key_id, k.name AS key_name"""
_NAMED = """
    JOIN teams t ON t.id = {0}.team_id JOIN users u ON u.id = {0}.user_id JOIN keys k ON k.id = {0}.key_id"""
_VIEWS = f"""
CREATE VIEW spend_by_day AS
SELECT s.day, {_NAMES.format("s")}, s.model,
    s.charged_usd, s.seconds, s.jobs, s.succeeded, s.failed, s.canceled
FROM spend_daily s {_NAMED.format("s")};
COMMENT ON VIEW spend_by_day IS
    'What was charged on each day of TIMEZONE, and how many jobs of it have ended how; jobs under way are not in it.';

CREATE VIEW job_costs AS
SELECT 'job_' || replace(j.id::text, '-', '') AS job_id, j.status, j.model, j.endpoint, {_NAMES.format("j")},
    j.end_user, j.tags, j.seconds, j.quoted_usd, j.held_usd, j.charged_usd,
    'price_' || replace(j.price_id::text, '-', '') AS price_id, j.fal_request_id,
    j.created_at, j.submitted_at, j.started_at, j.finished_at, c.booked_at AS charged_at
FROM jobs j {_NAMED.format("j")}
LEFT JOIN entries c ON c.job_id = j.id AND c.resolves_id IS NOT NULL;
COMMENT ON VIEW job_costs IS
    'Each job and what it costs; nothing of what was asked for or made. charged_usd is what it has cost until now.';

CREATE VIEW ledger_entries AS
SELECT 'entry_' || replace(e.id::text, '-', '') AS entry_id, 'job_' || replace(e.job_id::text, '-', '') AS job_id,
    e.kind, e.amount_usd, e.seconds, 'price_' || replace(e.price_id::text, '-', '') AS price_id, e.fal_units, e.mark,
    e.note, e.by AS booked_by, {_NAMES.format("e")}, e.model, e.end_user, e.tags, e.booked_at
FROM entries e {_NAMED.format("e")};
COMMENT ON VIEW ledger_entries IS
    'The ledger. Charged is the sum of settle, overage and adjustment; a hold is promised, a void given back.';

CREATE VIEW quota_standing AS
SELECT 'quota_' || replace(q.id::text, '-', '') AS quota_id, q.scope,
    CASE q.scope WHEN 'organization' THEN NULL WHEN 'end_user' THEN 'team_' ELSE q.scope || '_' END || w.subject
        AS subject,
    q.metric, q."window" AS window_kind,
    w.starts_at, w.ends_at, q.maximum, w.used, w.held, greatest(q.maximum - w.used - w.held, 0) AS remaining
FROM quotas q JOIN quota_usage w ON w.quota_id = q.id
WHERE q.deleted_at IS NULL AND w.starts_at <= now() AND (w.ends_at IS NULL OR w.ends_at > now());
COMMENT ON VIEW quota_standing IS
    'Each quota as it stands now, for each one whom it bounds and who has used something of it in this window.';

CREATE VIEW closed_month_totals AS
SELECT c.month, c.starts_at, c.ends_at, c.charged_usd, c.seconds, c.jobs, c.succeeded, c.failed, c.canceled,
    c.held_usd, c.held_jobs, c.closed_at, c.closed_by, c.reopened_at, c.reopened_by, c.reopen_note
FROM closed_months c;
COMMENT ON VIEW closed_month_totals IS
    'What a month came to when it was closed; reopened_at is not null where that no longer holds'
"""  # noqa: S608  ours


def upgrade() -> None:
    """Add what is new."""
    for statement in (_UP + ";\n" + _VIEWS).split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    """Take it away, and all that is in it."""
    op.execute("DROP VIEW closed_month_totals, quota_standing, ledger_entries, job_costs, spend_by_day")
    op.execute(
        "DROP TABLE freezes, quota_alerts, refusals, reconciliations, fal_bills, closed_months, books, spend_monthly"
    )
    op.execute("DROP INDEX quota_usage_ends_at_idx, attempts_sent_at_idx, entries_booked_at_idx")
    op.execute("ALTER TABLE upstream DROP COLUMN breaker_at, DROP COLUMN breaker_users_at, DROP COLUMN breaker_users")
    op.execute("ALTER TABLE quotas DROP COLUMN alert_percents")
    op.execute("ALTER TABLE teams DROP COLUMN alert_url, DROP COLUMN alert_shape, DROP COLUMN alert_user_id")
    op.execute(
        "ALTER TABLE spend_daily DROP COLUMN jobs, DROP COLUMN succeeded, DROP COLUMN failed, DROP COLUMN canceled"
    )
    op.execute("ALTER TABLE entries DROP COLUMN job_status")
