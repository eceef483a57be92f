"""Whether somebody is frozen: asked by the statement that finds the caller, so it costs no round trip."""

import json
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from app.ids import show
from app.problems import Problem

FROZEN_IDS: Final = "ARRAY(SELECT scope_id::uuid FROM freezes WHERE lifted_at IS NULL AND scope <> 'organization')"
"""Of every team, user and key that is frozen, in SQL; read once a statement, by the index of what is in force."""
ALL_FROZEN: Final = "EXISTS (SELECT FROM freezes WHERE lifted_at IS NULL AND scope = 'organization')"
"""Whether everybody is, in SQL."""


class Frozen(Problem):
    """Somebody has frozen you, your key, your team or everybody here: no job is accepted meanwhile.

    `freezes` names each freeze that covers you: its `scope`, who froze it (`by`), when, and why (`note`). Ask them, or
    an admin, to lift it. What was accepted before stays: a job that waits in `queued` goes on once the freeze is lifted
    (or ends, free, when it has waited for too long); a job that fal has is looked after as ever. Nothing was promised.
    """

    status = 403


def sql_freezes(team: str, user: str, key: str) -> str:
    """The freezes in force that cover somebody, as JSON text, the oldest first; NULL: none does.

    Whoever is not frozen pays for a comparison with what is read once a statement.
    """
    return f"""CASE WHEN {ALL_FROZEN} OR ARRAY[{team}, {user}, {key}] && {FROZEN_IDS} THEN (
        SELECT json_agg(json_build_object('id', f.id, 'scope', f.scope, 'note', f.note, 'by', f.by,
                                          'created_at', f.created_at) ORDER BY f.id)::text
        FROM freezes f WHERE f.lifted_at IS NULL
          AND (f.scope, f.scope_id) IN (('organization', ''), {_pair("team", team)}, {_pair("user", user)},
                                        {_pair("key", key)})) END"""  # noqa: S608  ours


def _pair(scope: str, column: str) -> str:
    return f"('{scope}', replace({column}::text, '-', ''))"


def read_freezes(text: str | None) -> list[dict[str, Any]]:
    """What `sql_freezes` brings, as a refusal shows it."""
    found: list[dict[str, Any]] = json.loads(text or "[]")
    return [
        freeze | {"id": show("freeze", UUID(freeze["id"])), "created_at": _moment(freeze["created_at"])}
        for freeze in found
    ]


def _moment(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).isoformat().replace("+00:00", "Z")


def frozen_by(text: str) -> Frozen:
    """The refusal of a submit that these freezes cover."""
    freezes = read_freezes(text)
    told = "; ".join(f"{_WHO[freeze['scope']]} by {freeze['by']}: {freeze['note']!r}" for freeze in freezes)
    return Frozen(f"No job is accepted here at present. Frozen: {told}. Ask them to lift it.", freezes=freezes)


_WHO: Final = {
    "organization": "everybody",
    "team": "your team",
    "user": "your user",
    "key": "this key",
}
