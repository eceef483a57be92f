"""URLs that others name, of webhooks and videos: which we may go to, each read strictly, so that all read it alike."""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from app.outward.addresses import Address, may_call

LONGEST_URL: Final = 2000

_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*")  # RFC 3986
_URL: Final = re.compile(r"(https?)://([^/?]+)(/[^?]*)?(\?.*)?", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?")
_NAME: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORTS: Final = range(1, 65536)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to go: `host` in lower case, `address` if it is a literal one, `path` with its query."""

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None

    @property
    def name(self) -> str:
        """`host:port`, by which places are shared out."""
        return f"{self._host}:{self.port}"

    @property
    def host_header(self) -> str:
        """What the Host header says."""
        return self._host if self.port == _port_of(self.scheme) else self.name

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host


def parse_target(url: str) -> Target:
    """Read a URL. Raises ValueError: what it must be, in words for the caller."""
    if len(url) > LONGEST_URL:
        raise ValueError(f"must have at most {LONGEST_URL} characters")
    if not _CHARACTERS.fullmatch(url):
        raise ValueError("must have only the ASCII characters of a URL: percent-encode others, and write xn-- names")
    if "#" in url:
        raise ValueError("must have no fragment")
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ValueError("must be an absolute https URL")
    scheme, authority, path, query = parts.groups()
    if "@" in authority:
        raise ValueError("must carry no credentials: its signature shows that it comes from here")
    split = _AUTHORITY.fullmatch(authority)
    if split is None:
        raise ValueError("must name a host, and a port only as digits")
    scheme, (v6, name, digits) = scheme.lower(), split.groups()
    port = int(digits) if digits else _port_of(scheme)
    if port not in _PORTS:
        raise ValueError("must have a port from 1 to 65535")
    host, address = _read_v6(v6) if v6 else _read_host(name)
    return Target(scheme, host, port, (path or "/") + (query or ""), address)


def target_of(url: str) -> str:
    """`host:port` of a URL that was accepted; of any other text, the text: an end must not fail on it."""
    try:
        return parse_target(url).name
    except ValueError:
        return url


def refusal_of(url: str, *, allow_private: bool) -> str | None:
    """Why we may not go to this URL, as far as can be told without asking DNS; None if it may."""
    try:
        target = parse_target(url)
    except ValueError as error:
        return str(error)
    if target.scheme != "https" and not allow_private:
        return "must be an https URL"
    is_own = target.host == "localhost" or target.host.endswith(".localhost")
    is_refused = target.address is not None and not may_call(target.address, allow_private=allow_private)
    if is_refused or (is_own and not allow_private):
        return "must lead to a public address"
    return None


def _port_of(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _read_v6(text: str) -> tuple[str, Address]:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        raise ValueError("must name a host: this is no IPv6 address") from None
    return str(address), address


def _read_host(text: str) -> tuple[str, Address | None]:
    """A name, or an IPv4 address as four decimal numbers: what programs read as one in other spellings is refused."""
    name = text.lower().removesuffix(".")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            address = IPv4Address(name)
        except AddressValueError:
            raise ValueError("must write an IPv4 address as four decimal numbers") from None
        return str(address), address
    if not _NAME.fullmatch(name):
        raise ValueError("must name a host")
    return name, None
