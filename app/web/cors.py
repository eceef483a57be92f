"""Cross-origin answers: which pages of others may call us from a browser, as CORS_ORIGINS says."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

Crossing = Callable[[ASGIApp], ASGIApp]
"""Wraps an application, or a single answer, so that pages of listed origins may read it."""

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_EXPOSED: Final = (
    "accept-ranges",
    "allow",
    "content-disposition",
    "content-length",
    "content-range",
    "etag",
    "idempotent-replayed",
    "location",
    "preference-applied",
    "retry-after",
    "www-authenticate",
    "x-fal-billable-units",
    "x-fal-error-type",
    "x-fal-needs-retry",
    "x-fal-request-id",
    "x-fal-request-timeout-type",
    "x-fal-retryable",
    "x-request-id",
)


def crossing(origins: Sequence[str]) -> Crossing:
    """For these origins; `*` is every one, none leaves everything as it is.

    Any request header may be sent: fal's clients send a dozen of fal's own (FAL.md 4.2), their next release perhaps
    one more. No cookie is ever read here, so a page can do nothing in the name of its visitor that it could not do
    without a browser; credentials are therefore not allowed, and keys and tokens go in a header.
    """
    if not origins:
        return _as_it_is
    return partial(
        CORSMiddleware,
        allow_origins=tuple(origins),
        allow_methods=_METHODS,
        allow_headers=("*",),
        expose_headers=_EXPOSED,
    )


def _as_it_is(app: ASGIApp) -> ASGIApp:
    return app
