"""${message}."""

from collections.abc import Sequence

from alembic import op

revision: str = ${repr(up_revision)}
down_revision: str | None = ${repr(down_revision)}
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    """What this migration adds."""
    ${upgrades if upgrades else "raise NotImplementedError"}


def downgrade() -> None:
    """How it is taken back."""
    ${downgrades if downgrades else "raise NotImplementedError"}
