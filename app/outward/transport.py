"""httpx's own transport, whose exceptions tell a connection never made from an answer lost: in every case."""

import httpx


class Transport(httpx.AsyncHTTPTransport):
    """A connection that the other side resets as soon as it stands was never made, and is a ConnectError.

    Under uvloop its socket is gone by then, and anyio 4.16, which looks at it before anything is sent, raises
    AttributeError.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.TransportError alone."""
        try:
            return await super().handle_async_request(request)
        except AttributeError as error:
            raise httpx.ConnectError("reset as soon as it was made", request=request) from error
