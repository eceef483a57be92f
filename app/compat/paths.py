"""What a path of fal's protocol asks for: pure parsing, of `/fal/…` and of a URL at fal's own hosts alike."""

from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from app.fal.paths import alias_length
from app.ids import parse

Kind = Literal["result", "status", "stream", "cancel"]

KINDS: Final[dict[str, Kind]] = {
    "": "result",
    "response": "result",
    "status": "status",
    "status/stream": "stream",
    "cancel": "cancel",
}
"""What may follow `…/requests/{id}`: clients and documents differ (FAL.md 1.2)."""

NO_TOKENS: Final = "The gateway hands out no tokens of fal's: make one of its own with POST /v1/tokens."
_RUN: Final = "run/"
_LONGEST: Final = 1_000


@dataclass(frozen=True, slots=True)
class SubmitCall:
    """A job is to be made: `POST {endpoint}` at the queue. Whether the endpoint is served is not said."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class RunCall:
    """A job is to be made and waited for: `POST {endpoint}` at fal.run."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class RequestCall:
    """Something about one job; `base` is what stands before `/requests/`: an alias or a whole endpoint id.

    `job_id` is None when what stands there cannot be the id of a job: it is answered as a job that is not there.
    """

    base: str
    job_id: UUID | None
    kind: Kind


@dataclass(frozen=True, slots=True)
class NoCall:
    """Nothing that fal's queue knows, or nothing that can be accounted for; `detail` is what to say of it."""

    detail: str


Call = SubmitCall | RunCall | RequestCall | NoCall


def parse_below(path: str) -> Call:
    """What is asked by a path below `/fal/`: `run/…` is fal.run's, the rest is the queue's."""
    return parse_run(path.removeprefix(_RUN)) if path.startswith(_RUN) else parse_queue(path)


def parse_queue(path: str) -> Call:
    """What is asked by a path at queue.fal.run, without its first slash; with or without one at its end."""
    path = path.removesuffix("/")
    base, found, rest = path.partition("/requests/")
    if not found:
        return _refused(path) or SubmitCall(path)
    request_id, _, tail = rest.partition("/")
    kind = KINDS.get(tail)
    if kind is None or not request_id or not _is_endpoint(base):
        return _nothing(path)
    return RequestCall(base, parse("job", request_id), kind)


def parse_run(path: str) -> Call:
    """What is asked by a path at fal.run, without its first slash."""
    path = path.removesuffix("/")
    return _refused(path) or RunCall(path)


def alias_of(endpoint: str) -> str:
    """What is left of an endpoint id after the submit."""
    segments = endpoint.split("/")
    return "/".join(segments[: alias_length(segments)])


def is_base_of(base: str, endpoint: str) -> bool:
    """Whether a call about a job of this endpoint may name it so: by its alias, or in full."""
    return base in {endpoint, alias_of(endpoint)}


def _refused(path: str) -> NoCall | None:
    """What can be no endpoint, and the three of fal's ways round the queue, which nobody could account for."""
    *head, last = path.split("/")
    if last == "stream":
        return NoCall("The gateway serves no stream of an endpoint: submit to its queue, then follow the status.")
    if last == "realtime":
        return NoCall("The gateway serves no realtime endpoints: submit to the endpoint's queue.")
    if (head or [last])[0] == "tokens":
        return NoCall(NO_TOKENS)
    return None if _is_endpoint(path) else _nothing(path)


def _is_endpoint(path: str) -> bool:
    segments = path.split("/")
    return len(path) <= _LONGEST and len(segments) >= alias_length(segments) and all(segments)


def _nothing(path: str) -> NoCall:
    return NoCall(f"Path /{path[:200]} not found")
