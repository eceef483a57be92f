"""What a call to fal can come to: one frozen dataclass for each, to be matched exhaustively."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

CLIENT_CLOSED: Final = 499
"""nginx' own code, which fal answers for a request that was cancelled (FAL.md 1.5)."""


@dataclass(frozen=True, slots=True)
class RequestRef:
    """How a fal request is found again: its id, and three paths below FAL_QUEUE_URL, each beginning with `/`.

    Made by `paths.returned_ref` and `paths.alias_ref`, which check them; safe to store and to build again
    from storage.
    """

    fal_request_id: str
    status_path: str
    result_path: str
    cancel_path: str


@dataclass(frozen=True, slots=True)
class FalError:
    """An error of fal or of the model, fit to be shown: bounded, printable, without echoes of the input.

    `type` is fal's own (FAL.md 2.2, 2.3), or None when none was stated. `retryable` is what fal says of it,
    or, when it says nothing, whether it is a 5xx. `body` and `headers` are for callers that speak fal's protocol, and
    are shown to nobody else: fal's JSON body, trimmed, with what it says of the input unless that is large; and of
    fal's own headers those that tell of an error.
    """

    code: int
    type: str | None
    title: str
    detail: str
    retryable: bool
    body: dict[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_cancel(self) -> bool:
        """Whether it tells of a cancel: 499 `client_cancelled`."""
        return self.code == CLIENT_CLOSED and self.type == "client_cancelled"


@dataclass(frozen=True, slots=True)
class BillableUnits:
    """The `x-fal-billable-units` stated; `units` is None when `text` is not a plain non-negative number."""

    text: str
    units: Decimal | None


# Submit


@dataclass(frozen=True, slots=True)
class Accepted:
    """Fal has it: 200 with a usable request id."""

    ref: RequestRef
    queue_position: int | None


@dataclass(frozen=True, slots=True)
class Refused:
    """Fal refused this input: 400, 413, 422, or a 404 naming the path, in its own shape. Nothing was made."""

    error: FalError


@dataclass(frozen=True, slots=True)
class NotSent:
    """Not one byte of the request went out. It may be sent again."""

    reason: str


@dataclass(frozen=True, slots=True)
class RefusedUs:
    """Fal refused the operator (key, balance, limit, URL), not the input: any other 4xx. Nothing was made."""

    code: int
    reason: str
    retry_after_seconds: int | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The answer was lost or says nothing.

    Fal may have the request: without evidence it is not sent again.
    """

    reason: str
    code: int | None


# Status


@dataclass(frozen=True, slots=True)
class Queued:
    """IN_QUEUE. `position` counts from 0."""

    position: int | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of what the model writes, each field printable and bounded (FAL.md 1.3).

    `logged_at` is fal's own word for when, None when it says none.
    """

    message: str
    level: str
    source: str
    logged_at: str | None


@dataclass(frozen=True, slots=True)
class InProgress:
    """IN_PROGRESS. `lines` is its log so far, where that was asked for."""

    lines: tuple[LogLine, ...] = ()


@dataclass(frozen=True, slots=True)
class Completed:
    """COMPLETED: well or badly, the result tells.

    `error` and `error_type` are what the status body carried; `inference_seconds` how long the model worked, where fal
    says so; `lines` its log, where that was asked for.
    """

    error: str | None
    error_type: str | None
    inference_seconds: float | None = None
    lines: tuple[LogLine, ...] = ()


@dataclass(frozen=True, slots=True)
class UnknownStatus:
    """A status word that fal had not when this was written. Keep asking, and count it."""

    status: str


# Result


@dataclass(frozen=True, slots=True)
class Succeeded:
    """200 with a JSON object. `output` is fal's, but for U+0000 (now U+FFFD), which Postgres cannot hold."""

    output: dict[str, object]
    billable: BillableUnits | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The model's own error, which ends the job.

    `start_deadline`: 504 because it did not start in time, so it never ran. `canceled`: 499
    `client_cancelled`. `billable` is None when the reply stated no units. `doubtful`: the status body did not speak
    of a failure, so it may be trouble of fal's in the model's clothes.
    """

    error: FalError
    billable: BillableUnits | None
    start_deadline: bool
    canceled: bool
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class NotYet:
    """The result was asked for before the request was completed (FAL.md 1.5)."""


# Cancel


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The runner was signalled; it may finish all the same, and be billed (FAL.md 1.6)."""


@dataclass(frozen=True, slots=True)
class CancelDone:
    """Removed while it was queued."""


@dataclass(frozen=True, slots=True)
class AlreadyCompleted:
    """Too late: it has ended. The result tells how."""


# Status, result and cancel


@dataclass(frozen=True, slots=True)
class Gone:
    """404 or 410 in fal's own shape. One alone proves nothing: see DESIGN.md, "Whose error is it?"."""

    code: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """No word about the job: the network, a proxy, our key or balance, fal. Ours to mend; ask later."""

    reason: str
    code: int | None = None
    retry_after_seconds: int | None = None


SubmitOutcome = Accepted | Refused | NotSent | RefusedUs | Unknown
StatusOutcome = Queued | InProgress | Completed | UnknownStatus | Gone | Trouble
ResultOutcome = Succeeded | Failed | NotYet | Gone | Trouble
CancelOutcome = CancelRequested | CancelDone | AlreadyCompleted | Gone | Trouble
