"""JSON or CSV: as `?format=` says, else as the `Accept` header does."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import Response
from pydantic import BaseModel

from app.reports.csv import MEDIA_TYPE
from app.reports.period import Faults

FORMATS: Final = ("json", "csv")
WITH_TOTAL: Final = "JSON, or CSV: a header, the same lines, and a last line that begins with `total`."

_JSON: Final = ("application/json", "application/*", "*/*")
_CSV: Final = ("text/csv", "text/*", "*/*")


def json_or_csv(model: type[BaseModel], description: str) -> dict[int | str, dict[str, Any]]:
    """Such an answer as OpenAPI has it, for a route's `responses`."""
    return {200: {"model": model, "description": description, "content": {"text/csv": {"schema": {"type": "string"}}}}}


def wants_csv(given: Sequence[str], accept: str, faults: Faults) -> bool:
    """Whether CSV is asked for; what neither asks for is JSON. Adds to `faults` a format that we do not have."""
    if not given:
        weights = _weights(accept)
        return _weight(weights, _CSV) > _weight(weights, _JSON)
    if given[0] not in FORMATS:
        faults.append({"parameter": "format", "detail": f"must be one of {', '.join(FORMATS)}"})
    return given[0] == "csv"


def answered(report: bytes, *, as_csv: bool, name: str) -> Response:
    """A report that has been written; `name` is that of the file which a CSV becomes."""
    if not as_csv:
        return Response(report, media_type="application/json", headers={"Vary": "Accept"})
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Vary": "Accept"}
    return Response(report, media_type=MEDIA_TYPE, headers=headers)


def _weights(accept: str) -> dict[str, float]:
    """What each media range of an `Accept` header is worth (RFC 9110, 12.5.1)."""
    weights = {}
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        given = [piece.removeprefix("q=") for piece in parameters if piece.startswith("q=")]
        try:
            weights[kind] = float(given[0]) if given else 1.0
        except ValueError:
            weights[kind] = 0.0
    return weights


def _weight(weights: dict[str, float], ranges: Sequence[str]) -> float:
    """Of the most specific range that is there."""
    return next((weights[kind] for kind in ranges if kind in weights), 0.0)
