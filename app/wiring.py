"""What the application holds, and how a route asks for it."""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from app.catalogue.registry import Catalogue, load_catalogue
from app.db import Database
from app.fal import Downloads, KeySet, Platform, Queue, Storage, trust
from app.metrics import Metrics
from app.output_store import open_store
from app.settings import Settings
from app.tokens import Tokens

if TYPE_CHECKING:
    from app.output_store.store import OutputStore

log = logging.getLogger("falgate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """One of each, made at start-up and closed at the end."""

    settings: Settings
    db: Database
    fal: Queue
    platform: Platform
    storage: Storage
    signatures: KeySet
    downloads: Downloads
    output_store: "OutputStore | None"
    tls: ssl.SSLContext
    catalogue: Catalogue
    metrics: Metrics
    tokens: Tokens | None
    clock: Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of a running gateway."""
    return datetime.now(UTC)


def wire(settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> Wiring:
    """Make everything that `settings` describe; nothing is connected yet."""
    tls = trust()
    return Wiring(
        settings=settings,
        db=Database(settings.database_url.get_secret_value(), pool_size=settings.database_pool_size),
        fal=Queue(fal_key=settings.fal_key, queue_url=settings.fal_queue_url, tls=tls),
        platform=Platform(
            fal_key=settings.fal_key, admin_key=settings.fal_admin_key, api_url=settings.fal_api_url, tls=tls
        ),
        storage=Storage(
            fal_key=settings.fal_key,
            rest_url=settings.fal_rest_url,
            fal_urls=(settings.fal_queue_url, settings.fal_api_url),
            tls=tls,
        ),
        signatures=KeySet(rest_url=settings.fal_rest_url, tls=tls),
        downloads=Downloads(fal_urls=(settings.fal_queue_url, settings.fal_rest_url), tls=tls),
        output_store=open_store(settings),
        tls=tls,
        catalogue=load_catalogue(),
        metrics=Metrics(),
        tokens=Tokens(settings.secret_key) if settings.secret_key else None,
        clock=clock,
    )


async def unwire(wiring: Wiring) -> None:
    """Close every connection."""
    await wiring.fal.aclose()
    await wiring.platform.aclose()
    await wiring.storage.aclose()
    await wiring.signatures.aclose()
    await wiring.db.close()


def wiring_of(request: Request) -> Wiring:
    """What this application holds."""
    wiring: Wiring = request.app.state.wiring
    return wiring


Wired = Annotated[Wiring, Depends(wiring_of)]
"""The parameter by which a FastAPI route asks for it."""
