"""What goes back over HTTP, in fal's shapes (FAL.md 2.1)."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

Headers = tuple[tuple[bytes, bytes], ...]
Delivery = Literal["send", "close", "reset", "hang", "cut"]

JSON_TYPE = (b"content-type", b"application/json")
HTML_TYPE = (b"content-type", b"text/html")


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, or (by `delivery`) the lack of one: closed, reset, never sent, or cut off in its middle."""

    status: int
    body: bytes = b""
    headers: Headers = field(default=(JSON_TYPE,))
    delivery: Delivery = "send"


def encode_json(content: object) -> bytes:
    """Return compact JSON."""
    return json.dumps(content, separators=(",", ":")).encode()


def json_answer(status: int, content: object, *, request_id: str = "", headers: Headers = ()) -> Answer:
    """Return JSON with `x-fal-request-id`, which fal puts on every answer (FAL.md 1.7, 4.1).

    Without a job's id it is an id of this call alone.
    """
    identity = (b"x-fal-request-id", (request_id or str(uuid.uuid4())).encode())
    return Answer(status, encode_json(content), (JSON_TYPE, identity, *headers))


def platform_error(
    status: int, detail: str, error_type: str = "", *, request_id: str = "", headers: Headers = ()
) -> Answer:
    """Return an error of fal itself: a text and, where fal names one, its type twice (FAL.md 2.1, 2.3)."""
    body: dict[str, Any] = {"detail": detail}
    if error_type:
        body["error_type"] = error_type
        headers = (*headers, (b"x-fal-error-type", error_type.encode()))
    return json_answer(status, body, request_id=request_id, headers=headers)
