"""What every route shares: JSON bodies, lists, answers that are streamed, and the base of our own URLs."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from typing import Annotated, Any, Final, Generic, TypeVar

from fastapi import Query
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import logs
from app.ids import parse
from app.problems import InvalidInput, NotJson, Problem

Row = TypeVar("Row")

_asking: Final[ContextVar[Scope | None]] = ContextVar("asking", default=None)

STALL_SECONDS: Final = 300.0
"""How long a caller may take nothing of a streamed answer, as a player does that is paused."""
_LEAVE_SECONDS: Final = 2.0
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_MOST_FIELDS: Final = 200  # each unknown one is named, and costs memory until it is


class Body(BaseModel):
    """A request's body: unknown fields are refused, types are not bent, values never stand in an error."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Page(BaseModel, Generic[Row]):
    """A list, newest first. `next_cursor` is null on the last page."""

    data: list[Row]
    next_cursor: str | None


class ListQuery(BaseModel):
    """What every list takes. Unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str | None, Field(description="`next_cursor` of the page before.", max_length=200)] = None


Listing = Annotated[ListQuery, Query()]


def is_cursor(prefix: str) -> AfterValidator:
    """The check that a list's cursor is the id of something of this kind."""

    def check(value: str | None) -> str | None:
        if value is not None and parse(prefix, value) is None:
            raise ValueError("this is no `next_cursor` of this list")
        return value

    return AfterValidator(check)


def parse_json(body: bytes) -> Any:
    """One JSON value. Raises NotJson, and InvalidInput for an object of absurdly many fields."""
    if not body:
        raise NotJson("The body is empty: send a JSON object.")
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise NotJson(f"The body cannot be read as JSON: {error}.") from None
    if isinstance(value, dict) and len(value) > _MOST_FIELDS:
        raise InvalidInput([{"pointer": "", "detail": f"must have at most {_MOST_FIELDS} fields"}])
    return value


def require_json_type(content_type: str | None) -> None:
    """Raise NotJson unless the header says JSON."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise NotJson("Send the header Content-Type: application/json.")


class JsonRoute(APIRoute):
    """FastAPI's route, but a body that is not JSON is one clear refusal: NaN, depth and broken UTF-8 included.

    Whoever may not call the route hears that first. Every body must be a required one.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Read the body before FastAPI does."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if self.body_field is None:
                return await inner(request)
            parsed = _ParsedRequest(request.scope, request.receive)
            await parsed.parse()
            try:
                return await inner(parsed)
            except RequestValidationError:
                if parsed.refusal is not None:
                    raise parsed.refusal from None
                raise

        return handle


class _ParsedRequest(Request):
    """A request whose JSON has been read, or has not because of `refusal`."""

    refusal: Problem | None = None
    _parsed: Any = None

    async def parse(self) -> None:
        body = await self.body()
        try:
            require_json_type(self.headers.get("content-type"))
            self._parsed = parse_json(body)
        except Problem as problem:
            self.refusal = problem

    async def json(self) -> Any:
        return self._parsed


class PlainRoute(APIRoute):
    """A route in the schema like any other, but its endpoint answers the request itself: the hot paths.

    The endpoint takes a Request and returns a Response; what FastAPI would have read of its signature stands in
    `openapi_extra`.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = _direct(endpoint)


def _direct(endpoint: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    return app


def base_url(request: Request) -> str:
    """Where the caller reached us, when PUBLIC_URL does not say; no slash at its end."""
    return str(request.base_url).rstrip("/")


def begin_answering(scope: Scope) -> None:
    """This task answers that request: `reached_at` is about it."""
    _asking.set(scope)


def reached_at() -> str | None:
    """`base_url` of the request that is being answered, wherever that is asked; None when none is."""
    scope = _asking.get()
    return None if scope is None else base_url(Request(scope))


async def hung_up(receive: Receive) -> None:
    """Returns when the caller of a request, whose body has been read, has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


class Streamed(Response):
    """Sends `chunks` no faster than they are taken, and lets go of them when nobody takes them any more.

    Return it at once. When the gateway is told to end (`stopping`), what is nearly done is let finish and the rest is
    cut off. Whatever is cut off or fails ends without its end: the caller sees that it was broken off.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        *,
        stopping: asyncio.Event,
        status: int = 200,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(status_code=status, headers=headers)
        if "content-length" not in {name.lower() for name in headers}:
            del self.headers["content-length"]  # Starlette believes that there is no body
        self._chunks = chunks
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, all or until something ends it."""
        scope["patience"].last(math.inf)  # STALL_SECONDS bounds it instead
        sending = asyncio.create_task(self._send(scope["method"] == "HEAD", send))
        ends = [asyncio.create_task(hung_up(receive)), asyncio.create_task(self._has_to_leave())]
        try:
            await asyncio.wait([sending, *ends], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, *ends):
                task.cancel()
            await asyncio.wait([sending, *ends])
            await self.end()
        error = None if sending.cancelled() else sending.exception()
        if error is not None:
            self.tell(error)
        logs.is_broken_off.set(sending.cancelled() or error is not None)

    async def end(self) -> None:
        """Give back what the answer was made of; called once it is sent, or broken off."""

    def tell(self, error: BaseException) -> None:
        """What broke it off, for the log; raise whatever is not expected."""
        raise error

    async def _send(self, is_head: bool, send: Send) -> None:  # noqa: FBT001  one caller, above
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(STALL_SECONDS):
                await send(message)

        await in_time({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if not is_head:
            async with aclosing(self._chunks) as chunks:
                async for chunk in chunks:
                    await in_time({"type": "http.response.body", "body": chunk, "more_body": True})
        await in_time({"type": "http.response.body", "body": b"", "more_body": False})

    async def _has_to_leave(self) -> None:
        await self._stopping.wait()
        await asyncio.sleep(_LEAVE_SECONDS)


def methods_of(request: Request) -> list[str]:
    """The methods that the path of this request has, whichever routes they belong to."""
    routes = [route for route in request.app.router.routes if not isinstance(route, Mount)]

    def has(method: str) -> bool:
        return any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)

    return [method for method in _METHODS if has(method)] or ["GET", "HEAD"]  # nothing else: a file is mounted there


def json_response(body: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that is written already."""
    return Response(body, status_code=status, media_type="application/json", headers=headers)
