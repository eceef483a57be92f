"""What reports are asked by: how a URL's parameters are read, and how OpenAPI shows those that several reports take."""

from collections.abc import Sequence
from typing import Any, Final

from app.problems import cut
from app.reports.formats import FORMATS
from app.reports.period import Faults

_MAY_REPEAT: Final = "group_by"


def read_parameters(query: Sequence[tuple[str, str]], names: Sequence[str], faults: Faults) -> dict[str, str]:
    """What names and values, as they stand in a URL, say of `names`; adds to `faults` what is wrong.

    Each may be given once but `group_by`, whose values become one, with commas between.
    """
    given: dict[str, str] = {}
    for name, value in query:
        if name not in names:
            faults.append({"parameter": cut(name), "detail": f"is not known here; known are {', '.join(names)}"})
        elif name in given and name != _MAY_REPEAT:
            faults.append({"parameter": name, "detail": "give it once"})
        elif "\0" in value:
            faults.append({"parameter": name, "detail": "must have no NUL in it"})
        else:
            given[name] = f"{given[name]},{value}" if name in given else value
    return given


def parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    """A parameter as OpenAPI has it."""
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


_DAY_OR_MOMENT: Final[dict[str, Any]] = {
    "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]
}
SINCE: Final = parameter(
    "since", _DAY_OR_MOMENT, "A date, which begins at its first instant in TIMEZONE, or a moment. Default: this month."
)
UNTIL: Final = parameter(
    "until", _DAY_OR_MOMENT, "The first date or moment that is no longer part of it; default: none, it has no end."
)
FORMAT: Final = parameter(
    "format", {"type": "string", "enum": list(FORMATS)}, "Default: what `Accept` prefers of the two, else JSON."
)
