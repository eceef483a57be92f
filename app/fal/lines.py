"""The log in a status reply: what the model has written so far, bounded and cleaned."""

from collections.abc import Mapping
from typing import Final

from app.fal.messages import text_in
from app.fal.outcomes import LogLine

MOST_LINES: Final = 1000
"""Of one job."""

_MESSAGE_CHARACTERS: Final = 2000
_WORD_CHARACTERS: Final = 50
_LEVEL: Final = "INFO"
_SOURCE: Final = "USER"  # the one there is (FAL.md 1.3)


def read_lines(answer: Mapping[str, object]) -> tuple[LogLine, ...]:
    """The first `MOST_LINES` of `logs` (FAL.md 1.3); an entry that cannot be read keeps its place, with no message."""
    logs = answer.get("logs")
    return tuple(_line(entry) for entry in logs[:MOST_LINES]) if isinstance(logs, list) else ()


def _line(entry: object) -> LogLine:
    given = entry if isinstance(entry, dict) else {"message": entry}
    return LogLine(
        message=text_in(given, "message", _MESSAGE_CHARACTERS) or "",
        level=text_in(given, "level", _WORD_CHARACTERS) or _LEVEL,
        source=text_in(given, "source", _WORD_CHARACTERS) or _SOURCE,
        logged_at=text_in(given, "timestamp", _WORD_CHARACTERS),
    )
