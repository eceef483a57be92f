"""What every route shares: JSON bodies, lists, and the base of our own URLs."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.problems import NotJson

Row = TypeVar("Row")


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
    cursor: Annotated[str | None, Field(description="`next_cursor` of the page before.", max_length=200)] = (
        None
    )


Listing = Annotated[ListQuery, Query()]


def parse_json(body: bytes) -> Any:
    """One JSON value. Raises NotJson."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise NotJson(f"The body cannot be read as JSON: {error}.") from None


def require_json_type(content_type: str | None) -> None:
    """Raise NotJson unless the header says JSON."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise NotJson("Send the header Content-Type: application/json.")


class JsonRoute(APIRoute):
    """FastAPI's route, but a body that is not JSON is one clear refusal: NaN, depth and broken UTF-8 included."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Read the body before FastAPI does."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if self.body_field is None:
                return await inner(request)
            parsed = _ParsedRequest(request.scope, request.receive)
            await parsed.parse()
            return await inner(parsed)

        return handle


class _ParsedRequest(Request):
    """A request whose JSON has been read."""

    async def parse(self) -> None:
        body = await self.body()
        require_json_type(self.headers.get("content-type"))
        self._parsed = parse_json(body)

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


def json_response(body: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that is written already."""
    return Response(body, status_code=status, media_type="application/json", headers=headers)
