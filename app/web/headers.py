"""The headers by which every answer says how little a browser may do with it; made once, added by the edge."""

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]

_CSP: Final = b"content-security-policy"
_ASSETS: Final = "/docs/assets/"
_INLINE: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)

_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_NOT_STORED: Final = (*_ALWAYS, (b"cache-control", b"no-store"))
_OPENS_NOTHING: Final = (_CSP, b"default-src 'none'; frame-ancestors 'none'")
# By whether the answer says itself how long it may be kept, and what it opens.
_ADDED: Final[dict[tuple[bool, bool], Headers]] = {
    (False, False): (*_NOT_STORED, _OPENS_NOTHING),
    (False, True): _NOT_STORED,
    (True, False): (*_ALWAYS, _OPENS_NOTHING),
    (True, True): _ALWAYS,
}


def headers_for(path: str, answered: Headers) -> Headers:
    """What is added to an answer: it opens nothing and is kept nowhere, but where it says otherwise, as a page does.

    The assets of /docs say nothing, and are left that.
    """
    if path.startswith(_ASSETS):
        return _ALWAYS
    told = {name for name, _ in answered}
    return _ADDED[b"cache-control" in told, _CSP in told]


def page_policy(page: str) -> dict[str, str]:
    """The policy of a page of ours: its own inline script and nothing else that is inline but style; no other host."""
    digests = (hashlib.sha256(script.encode()).digest() for script in _INLINE.findall(page))
    hashes = "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    policy = (
        f"default-src 'none'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {"Content-Security-Policy": policy}
