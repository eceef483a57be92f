"""What the values of settings must be: each as strict as whatever takes it, so that a wrong one is refused at once."""

import difflib
import re
from functools import cache
from importlib.resources import files
from ipaddress import ip_address, ip_network
from typing import Annotated, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, SecretStr

_ADMIN_KEY_LENGTH: Final = 24
_SECRET_KEY_LENGTH: Final = 32
_FAL_KEY_LENGTH: Final = 1000  # what app.fal sends
_URL: Final = re.compile(r"[!-~]{1,2000}")
_HOST: Final = re.compile(r"[a-z0-9._:-]+")
_ADDRESS: Final = re.compile(r".*:.*|\d+\.\d+\.\d+\.\d+")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*/?")


def _http_url(value: str) -> str:
    if not _is_plain_url(value):
        raise ValueError("must be an http(s) URL without query or credentials")
    return value.rstrip("/")


def _is_plain_url(value: str) -> bool:
    if not _URL.fullmatch(value) or any(mark in value for mark in "?#"):
        return False
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
        if _ADDRESS.fullmatch(host):
            ip_address(host)
    except ValueError:
        return False
    is_http = parts.scheme in {"http", "https"} and "@" not in parts.netloc
    return is_http and port != 0 and _HOST.fullmatch(host) is not None


def split_place(place: str) -> tuple[str, str]:
    """A bucket and a prefix, or '' and a folder. Raises ValueError: what OUTPUT_STORE must be."""
    if place.startswith("s3://"):
        parts = urlsplit(place)
        if not _BUCKET.fullmatch(parts.netloc) or not _PREFIX.fullmatch(parts.path) or "?" in place or "#" in place:
            raise ValueError("must name a bucket as s3://bucket or s3://bucket/prefix")
        return parts.netloc, parts.path.strip("/")
    if not place.startswith("/") or "\0" in place:
        raise ValueError("must be an absolute folder (/data/outputs) or a bucket (s3://bucket/prefix)")
    return "", place


@cache
def wheel_zone(name: str) -> ZoneInfo:
    """A time zone as the pinned tzdata wheel has it: `ZoneInfo(name)` would take this machine's own data first, and
    two replicas could cut their days differently.
    """  # noqa: D205  one sentence
    with (files("tzdata") / "zoneinfo" / name).open("rb") as data:
        return ZoneInfo.from_file(data, key=name)


def _known_zone(value: str) -> str:
    known = (files("tzdata") / "zones").read_text(encoding="ascii").split()
    if value not in known:
        near = difflib.get_close_matches(value, known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"must be an IANA time zone such as Europe/Berlin{hint}")
    return value


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    """As browsers send them: anything else would never match."""
    if not all(origin == "*" or _ORIGIN.fullmatch(origin) for origin in value):
        raise ValueError("must be origins in lower case without a path (such as https://studio.example.com), or *")
    return value


def _proxies(value: str) -> str:
    """Anything else would be taken for the name of a proxy, and never match."""
    if value.strip() == "*":
        return "*"
    try:
        for part in value.split(","):
            ip_network(part.strip())
    except ValueError:
        message = "must be addresses and networks (such as 172.16.0.0/12) with commas between, or * alone"
        raise ValueError(message) from None
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _fal_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not 0 < len(text) <= _FAL_KEY_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError('must be the key from fal\'s dashboard, or the word "sandbox"')
    return value


def _postgres_url(value: SecretStr) -> SecretStr:
    if value.get_secret_value().partition("://")[0].split("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError("must begin with postgresql:// or postgres://")
    return value


def _admin_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) < _ADMIN_KEY_LENGTH or text.startswith("fg_") or not text.isascii() or not text.isprintable():
        raise ValueError("must have at least 24 printable ASCII characters and not begin with fg_")
    return value


def _secret_key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < _SECRET_KEY_LENGTH:
        raise ValueError("must have at least 32 characters, such as `openssl rand -hex 32` prints")
    return value


def _place(value: str) -> str:
    split_place(value)
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
TimeZone = Annotated[str, AfterValidator(_known_zone)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_origins)]
Proxies = Annotated[str, AfterValidator(_proxies)]
FalKey = Annotated[SecretStr, AfterValidator(_fal_key)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]
AdminKey = Annotated[SecretStr, AfterValidator(_admin_key)]
SecretKey = Annotated[SecretStr, AfterValidator(_secret_key)]
Place = Annotated[str, AfterValidator(_place)]
LOWERED: Final = BeforeValidator(_lower)
