"""Where a job stands: every status, and the groups of them that the code asks about."""

from typing import Final

WAITING: Final = ("queued", "submitting", "submitted", "running", "unconfirmed")
"""Not ended yet, in the order of a job's life."""

ENDED: Final = ("succeeded", "failed", "canceled")
"""Exactly when `finished_at` is set."""

STATUSES: Final = WAITING + ENDED

QUEUED: Final = frozenset({"queued"})
BEFORE_ANSWER: Final = frozenset({"submitting", "unconfirmed"})
"""Sent, and nothing has been heard of it yet."""

AT_FAL: Final = frozenset({"submitted", "running", "unconfirmed"})
UNCONFIRMED: Final = frozenset({"unconfirmed"})
