"""Where a call goes: always below the URL that it was given, whatever URLs fal's answers name."""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import httpx

from app.fal.outcomes import RequestRef
from app.outward.targets import refusal_of

NAMESPACES: Final = ("workflows", "comfy")  # these shift the alias by one segment (FAL.md 1.2)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~:-]{0,127}")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~:@+-]{0,254}")
_HOST: Final = re.compile(rb"[A-Za-z0-9._:-]+")
_URL: Final = re.compile(r"[!-~]{1,2000}")
_FILE_URL: Final = re.compile(r"[!-~]{1,8192}")  # storage signs its URLs, which makes them long
_LAST_PORT: Final = 65535
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def is_request_id(text: object) -> bool:
    """Whether this can be the id of a fal request: bounded, and of characters safe in a URL's path."""
    return isinstance(text, str) and _REQUEST_ID.fullmatch(text) is not None


def endpoint_path(endpoint: str) -> str:
    """The path of a submit.

    Raises ValueError when the id cannot be an endpoint's: at least `owner/app`, plain segments.
    """
    segments = endpoint.split("/")
    if len(segments) < alias_length(segments) or not all(_SEGMENT.fullmatch(s) for s in segments):
        raise ValueError(f"{endpoint[:100]!r} cannot be the id of an endpoint of fal")
    return f"/{endpoint}"


def alias_ref(endpoint: str, fal_request_id: str) -> RequestRef:
    """The reference built from the endpoint alone, when fal's own URLs are not known (a webhook, its list).

    Only the first two segments survive after submit, three in a namespace; the owner is not always `fal-ai`
    (FAL.md 1.2, 7.3). Raises ValueError on an endpoint or a request id that cannot be one.
    """
    if not is_request_id(fal_request_id):
        raise ValueError("this cannot be the id of a fal request")
    segments = endpoint_path(endpoint).removeprefix("/").split("/")
    result = "/" + "/".join([*segments[: alias_length(segments)], "requests", fal_request_id])
    return RequestRef(fal_request_id, f"{result}/status", result, f"{result}/cancel")


def alias_length(segments: Sequence[str]) -> int:
    """How many segments of an endpoint id survive the submit: two, three in a namespace (FAL.md 1.2)."""
    return 3 if segments[0] in NAMESPACES else 2


class FalUrl:
    """FAL_QUEUE_URL, FAL_API_URL or FAL_REST_URL: an origin, and perhaps a path prefix, that no call leaves."""

    def __init__(self, text: str) -> None:
        """Raise ValueError unless it is a plain http(s) URL, without credentials, query or fragment."""
        try:
            url = httpx.URL(text.rstrip("/"))
        except httpx.InvalidURL:
            raise ValueError("a URL of fal's must be a URL") from None
        if (
            url.scheme not in _DEFAULT_PORTS
            or not _HOST.fullmatch(url.raw_host)
            or url.userinfo
            or url.query
            or url.fragment
        ):
            raise ValueError("a URL of fal's must be plain http or https, without credentials, query or fragment")
        self._url = url
        self._origin = _origin(url)
        self._prefix = url.raw_path.decode("ascii").rstrip("/")

    def __str__(self) -> str:
        return str(self._url)

    def at(self, path: str, query: Mapping[str, str] | None = None) -> httpx.URL:
        """The URL of a path below it. The origin cannot change, whatever the path holds."""
        below = self._url.copy_with(raw_path=f"{self._prefix}/{path.lstrip('/')}".encode("ascii"))
        return below.copy_merge_params(query) if query else below

    def takes_file(self, returned: object) -> bool:
        """Whether a URL that fal names for a file may be believed: https and not inside, or of this very origin.

        Inside is what its host says without DNS: localhost, or an address that is not public. Without credentials or
        fragment, and of characters that every reader of URLs takes for the same.
        """
        if not isinstance(returned, str) or not _FILE_URL.fullmatch(returned) or any(c in returned for c in "\\#"):
            return False
        try:
            url = httpx.URL(returned)
        except httpx.InvalidURL:
            return False
        if url.scheme not in _DEFAULT_PORTS or not _HOST.fullmatch(url.raw_host) or url.userinfo:
            return False
        if url.port is not None and url.port > _LAST_PORT:
            return False
        if _origin(url) == self._origin:
            return True
        place = f"https://{url.netloc.decode('ascii')}/"
        return url.scheme == "https" and refusal_of(place, allow_private=False) is None

    def returned_ref(self, endpoint: str, fal_request_id: str, answer: Mapping[str, object]) -> RequestRef:
        """The reference from a submit's answer: the path of each URL returned, or the alias' if it is odd."""
        alias = alias_ref(endpoint, fal_request_id)
        return RequestRef(
            fal_request_id,
            self.path_of(answer.get("status_url"), fal_request_id) or alias.status_path,
            self.path_of(answer.get("response_url"), fal_request_id) or alias.result_path,
            self.path_of(answer.get("cancel_url"), fal_request_id) or alias.cancel_path,
        )

    def path_of(self, returned: object, fal_request_id: str) -> str | None:
        """The path below FAL_QUEUE_URL of a URL that fal returned, or None when it is not one to be trusted.

        Trusted: the same origin, no credentials, query or fragment, plain segments (so no `..`, `%` or `//`),
        and this request's id among them. The prefix of FAL_QUEUE_URL, when the path begins with it, is taken
        off.
        """
        if not isinstance(returned, str) or not _URL.fullmatch(returned):
            return None
        try:
            url = urlsplit(returned)
            origin = (url.scheme, url.hostname, url.port or _DEFAULT_PORTS.get(url.scheme))
        except ValueError:
            return None
        if origin != self._origin or "@" in url.netloc or "?" in returned or "#" in returned:
            return None
        path = url.path.removeprefix(self._prefix) if url.path.startswith(f"{self._prefix}/") else url.path
        segments = path.removeprefix("/").removesuffix("/").split("/")
        if fal_request_id not in segments or not all(_SEGMENT.fullmatch(s) for s in segments):
            return None
        return path


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.raw_host.decode("ascii"), url.port or _DEFAULT_PORTS[url.scheme]
