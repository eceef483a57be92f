"""A request to an address that was looked at first: whatever DNS says a moment later, it goes nowhere else."""

import asyncio
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final

import httpx

from app.outward.addresses import Address, may_call
from app.outward.dns import Resolve
from app.outward.targets import Target

CONNECT_SECONDS: Final = 5.0
MOST_ADDRESSES: Final = 3
"""Of a name so many are tried, one after the other, as long as none was reached."""


class NotAllowed(Exception):  # noqa: N818  a fact
    """The name leads to an address that is not to be called."""


async def find_addresses(target: Target, *, allow_private: bool, resolve: Resolve) -> Sequence[Address]:
    """Where to connect, none if there is no such name.

    Raises NotAllowed unless every address of the name is one that we may call, and TimeoutError.
    """
    if target.address is not None:
        found = [target.address]
    else:
        async with asyncio.timeout(CONNECT_SECONDS):
            found = [ip_address(text) for text in await resolve(target.host, target.port)]
    if not all(may_call(address, allow_private=allow_private) for address in found):
        raise NotAllowed
    return found[:MOST_ADDRESSES]


def pinned_request(
    method: str,
    target: Target,
    address: Address | None,
    *,
    headers: Mapping[str, str],
    content: bytes | None = None,
    read_seconds: float,
    **extensions: Any,
) -> httpx.Request:
    """A request to this very address (None: to wherever the host's name leads); the certificate must be the host's."""
    host = target.host if address is None else str(address)
    return httpx.Request(
        method,
        httpx.URL(scheme=target.scheme, host=host, port=target.port),
        content=content,
        headers={
            "Host": target.host_header,
            "User-Agent": "falgate",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **headers,
        },
        extensions={
            "target": target.path.encode("ascii"),
            "sni_hostname": target.host,
            "timeout": httpx.Timeout(read_seconds, connect=CONNECT_SECONDS).as_dict(),
            **extensions,
        },
    )
