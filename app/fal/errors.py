"""fal's two error shapes, made into one `FalError` that may be shown to a caller."""

from typing import Final

import pydantic_core

from app.fal.messages import Reply, clean, storable, text_in
from app.fal.outcomes import Completed, FalError

SPEAKS_OF_US: Final = (401, 403, 408, 429)
"""Codes that say nothing about the job unless they come as the model's own error (DESIGN.md, section 3)."""

TOLD_IN_HEADERS: Final = (
    "x-fal-error-type",
    "x-fal-retryable",
    "x-fal-needs-retry",
    "x-fal-request-timeout-type",
    "x-fal-billable-units",
)
"""What a reply says of an error beside its body (FAL.md 1.7, 2.1)."""

_DETAIL_CHARACTERS: Final = 1000
_TEXT_CHARACTERS: Final = 3000  # of a text in the body; a prompt has at most 2,500
_HEADER_CHARACTERS: Final = 200
_BODY_CHARACTERS: Final = 16_000
_ENTRIES: Final = 10  # of `detail`, that are told in one text
_MEMBERS: Final = 50


def read_error(reply: Reply, completed: Completed | None = None) -> FalError:
    """The error a reply tells of, helped out by what the status body carried. Never raises.

    The type comes from `detail[0].type` (model errors), else `error_type` in the body, else the
    `X-Fal-Error-Type` header (platform errors, FAL.md 2.1), else the status body.
    """
    entries = _entries(reply.detail)
    status = {"error": completed.error, "type": completed.error_type} if completed is not None else None
    type_ = (
        text_in(entries[0] if entries else None, "type", 100)
        or text_in(reply.json, "error_type", 100)
        or text_in(reply.headers, "x-fal-error-type", 100)
        or text_in(status, "type", 100)
    )
    detail = _detail(reply, entries) or text_in(status, "error")
    return FalError(
        code=reply.code,
        type=type_,
        title=_title(type_, reply.code),
        detail=detail or f"fal answered {reply.code}",
        retryable=reply.code in range(500, 600) if reply.retryable is None else reply.retryable,
        body=_body(reply, detail),
        headers=_headers(reply),
    )


def _entries(detail: object) -> list[dict[str, object]]:
    return [entry for entry in detail if isinstance(entry, dict)] if isinstance(detail, list) else []


def _title(type_: str | None, code: int) -> str:
    return type_.replace("_", " ").replace(".", ": ").capitalize() if type_ else f"fal answered {code}"


def _detail(reply: Reply, entries: list[dict[str, object]]) -> str | None:
    if not isinstance(reply.detail, list):
        detail = reply.detail if isinstance(reply.detail, str) else trim(reply.detail)
        return text_in({"detail": detail}, "detail", _DETAIL_CHARACTERS)
    told = [_entry_text(entry) for entry in entries[:_ENTRIES]]
    told += [clean(item, _DETAIL_CHARACTERS) for item in reply.detail[:_ENTRIES] if isinstance(item, str)]
    return clean("; ".join(text for text in told if text), _DETAIL_CHARACTERS) or None


def _entry_text(entry: dict[str, object]) -> str:
    """`prompt: ensure this value has at most 2500 characters`."""
    loc = entry.get("loc")
    path = loc[:6] if isinstance(loc, list) else []
    steps = [clean(str(step), 50) for step in path if isinstance(step, str | int)]
    where = ".".join(steps[1:] if steps[:1] == ["body"] else steps)
    what = text_in(entry, "msg") or text_in(entry, "type") or ""
    return f"{where}: {what}" if where and what else what or where


def _headers(reply: Reply) -> dict[str, str]:
    """Those that can be sent on as they are."""
    told = {name: clean(reply.headers[name], _HEADER_CHARACTERS) for name in TOLD_IN_HEADERS if name in reply.headers}
    return {name: value for name, value in told.items() if value and value.isascii()}


def _body(reply: Reply, detail: str | None) -> dict[str, object]:
    """As much of it as is within bounds: what it says of the input goes first."""
    source = {name: value for name, value in (reply.json or {}).items() if name in {"detail", "error_type"}}
    for with_input in (True, False):
        body = {name: trim(value, with_input=with_input) for name, value in source.items()}
        if len(pydantic_core.to_json(body)) <= _BODY_CHARACTERS:
            return body
    return {"detail": detail}


def trim(value: object, depth: int = 6, *, with_input: bool = False) -> object:
    """The value cut in every direction, without images, and without what it says of the input unless that is wanted."""
    if isinstance(value, str):
        return storable(_cut(value))
    if isinstance(value, dict):
        names = [name for name in value if with_input or name != "input"][:_MEMBERS] if depth else []
        return {clean(name, 100): trim(value[name], depth - 1, with_input=with_input) for name in names}
    if isinstance(value, list):
        return [trim(item, depth - 1, with_input=with_input) for item in value[:_MEMBERS]] if depth else []
    return storable(value)


def _cut(text: str) -> str:
    """An image, of megabytes perhaps, is known by its type alone."""
    if text[:5].lower() == "data:":
        return f"{text[:100].partition(';')[0]};…"
    return text if len(text) <= _TEXT_CHARACTERS else f"{text[: _TEXT_CHARACTERS - 1]}…"
