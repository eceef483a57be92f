"""How a job ends: the result reply that is replayed (FAL.md 1.5, 2.2, 2.3) and what its status body says."""

from dataclasses import dataclass
from typing import Any

from app.sandbox.answers import Answer, Headers, json_answer, platform_error
from app.sandbox.validation import make_problem


@dataclass(frozen=True, slots=True)
class Outcome:
    """An end other than a video. Only models tell `retryable`; fal itself tells its type (FAL.md 2.1)."""

    status: int
    kind: str
    message: str
    retryable: bool | None = None
    headers: Headers = ()
    units: str | None = None


def _model(status: int, kind: str, message: str, *, retryable: bool = False) -> Outcome:
    # A 5xx is never billed and says nothing of units; a zero is proof of a free refusal (FAL.md 2.4).
    return Outcome(status, kind, message, retryable, units="0" if status < 500 else None)  # noqa: PLR2004


CANCELLED = Outcome(499, "client_cancelled", "Request was cancelled by the client", units="0")
NOT_STARTED = Outcome(
    504,
    "request_timeout",
    "Request timed out before it started",
    headers=((b"x-fal-request-timeout-type", b"user"),),
)
NO_VIDEO = "no_video"

OUTCOMES: dict[str, Outcome] = {
    "content_policy_violation": _model(
        422, "content_policy_violation", "The content could not be processed: flagged by a content checker."
    ),
    "no_media_generated": _model(422, "no_media_generated", "No media was generated."),
    "image_load_error": _model(422, "image_load_error", "Failed to load the image."),
    "downstream_service_error": _model(
        400, "downstream_service_error", "The model's provider could not answer.", retryable=True
    ),
    "model_forbidden": _model(403, "feature_not_supported", "This model does not allow that."),
    "internal_server_error": _model(500, "internal_server_error", "Internal Server Error"),
    "downstream_service_unavailable": _model(
        500, "downstream_service_unavailable", "The model's provider is unavailable.", retryable=True
    ),
    "generation_timeout": _model(504, "generation_timeout", "Generation took too long.", retryable=True),
    "runner_disconnected": Outcome(503, "runner_disconnected", "Runner disconnected"),
}


def refuse_input(problems: list[dict[str, Any]], request_id: str) -> Answer:
    """Return a model's 422 for an invalid input, marked free as fal's SDK does (FAL.md 2.4)."""
    headers = ((b"x-fal-billable-units", b"0"), (b"x-fal-retryable", b"false"))
    return json_answer(422, {"detail": problems}, request_id=request_id, headers=headers)


def tell_outcome(outcome: Outcome, request_id: str, units: str | None) -> Answer:
    """Return the reply of a job that ended without a video; `units` None = no such header."""
    headers = outcome.headers
    if units is not None:
        headers = (*headers, (b"x-fal-billable-units", units.encode()))
    if outcome.retryable is None:
        return platform_error(outcome.status, outcome.message, outcome.kind, request_id=request_id, headers=headers)
    detail = [make_problem(["body", "prompt"], outcome.message, outcome.kind)]
    headers = (*headers, (b"x-fal-retryable", b"true" if outcome.retryable else b"false"))
    return json_answer(outcome.status, {"detail": detail}, request_id=request_id, headers=headers)


def tell_output(output: dict[str, Any], request_id: str, units: str | None) -> Answer:
    """Return a success: the model's output and what it cost in units (FAL.md 1.5, 6)."""
    headers = () if units is None else ((b"x-fal-billable-units", units.encode()),)
    return json_answer(200, output, request_id=request_id, headers=headers)
