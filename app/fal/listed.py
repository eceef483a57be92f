"""fal's request list, read with tolerance for what is new and none for doubt: what it does not name may be sent again.

`GET /models/requests/by-endpoint` (FAL.md 6): it names only what has **started**, by default of the last 24 hours.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import httpx

from app.fal.errors import SPEAKS_OF_US, read_error
from app.fal.messages import Reply, storable
from app.fal.outcomes import Failed, Succeeded, Trouble
from app.fal.paths import is_request_id

COVERED: Final = timedelta(hours=24)
"""How far back the list goes by default."""

_LOWEST_ERROR: Final = 400
_LONGEST_CURSOR: Final = 4000


@dataclass(frozen=True, slots=True)
class ListedRequest:
    """A fal request as the list has it. `input` and `output` only where payloads were asked for, and are kept."""

    fal_request_id: str
    sent_at: datetime
    ended_at: datetime | None
    code: int | None
    input: dict[str, object] | None
    output: dict[str, object] | None

    @property
    def result(self) -> Succeeded | Failed | None:
        """How it ended; None when it has not, or when the list does not tell. What was billed it never tells."""
        if self.ended_at is None or self.code is None:
            return None
        if self.code == httpx.codes.OK:
            return None if self.output is None else Succeeded(self.output, None)
        reply = Reply(self.code, {}, b"" if self.output is None else httpx.Response(200, json=self.output).content)
        if self.code < _LOWEST_ERROR or (self.code in SPEAKS_OF_US and not reply.is_fal_error):
            return None
        error = read_error(reply)
        return Failed(error, None, start_deadline=False, canceled=error.is_cancel)


@dataclass(frozen=True, slots=True)
class Listed:
    """All that was asked for, read to its end."""

    requests: tuple[ListedRequest, ...]


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page; `next_cursor` is None on the last."""

    requests: tuple[ListedRequest, ...]
    next_cursor: str | None


def read_page(reply: Reply, endpoint: str) -> ListPage | Trouble:
    """One page of the list; Trouble whenever it cannot be told what the list says."""
    if reply.code != httpx.codes.OK:
        return Trouble(f"fal answered {reply.code}", reply.code, reply.retry_after_seconds)
    answer = reply.json or {}
    items = answer.get("items")
    if not isinstance(items, list):
        return Trouble("fal's request list is no list", reply.code)
    requests = [_read_item(item, endpoint) for item in items]
    read = tuple(request for request in requests if request is not None)
    if len(read) < len(items):
        return Trouble("fal's request list has an entry that cannot be read", reply.code)
    has_more, cursor = answer.get("has_more"), answer.get("next_cursor")
    if has_more is False or (has_more is None and cursor is None):
        return ListPage(read, None)
    if (
        not (has_more is True or has_more is None)
        or not isinstance(cursor, str)
        or not 0 < len(cursor) <= _LONGEST_CURSOR
    ):
        return Trouble("fal's request list does not say how it goes on", reply.code)
    return ListPage(read, cursor)


def _read_item(item: object, endpoint: str) -> ListedRequest | None:
    if not isinstance(item, dict) or item.get("endpoint_id", endpoint) != endpoint:
        return None
    request_id, sent_at, ended_at = item.get("request_id"), _moment(item.get("sent_at")), item.get("ended_at")
    ended = None if ended_at is None else _moment(ended_at)
    if not isinstance(request_id, str) or not is_request_id(request_id) or sent_at is None:
        return None
    if ended_at is not None and ended is None:
        return None
    code = item.get("status_code")
    is_code = isinstance(code, int) and not isinstance(code, bool)
    return ListedRequest(
        request_id,
        sent_at,
        ended,
        code if is_code else None,
        _payload(item, "json_input"),
        _payload(item, "json_output"),
    )


def _moment(text: object) -> datetime | None:
    """Only with its offset: a local time would be a guess."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


def _payload(item: dict[str, object], name: str) -> dict[str, object] | None:
    value = item.get(name)
    return {str(storable(key)): storable(each) for key, each in value.items()} if isinstance(value, dict) else None
