"""Whether we live, and whether we are ready."""

import asyncio
from typing import Final

from fastapi import APIRouter
from sqlalchemy import text

from app.http import JsonRoute
from app.problems import Unavailable, responses
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["health"])

_READY_WITHIN_SECONDS: Final = 3.0


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", operation_id="get_live")
async def get_live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", operation_id="get_ready", responses=responses(503))
async def get_ready(wired: Wired) -> dict[str, str]:
    """Postgres answers too."""
    try:
        async with asyncio.timeout(_READY_WITHIN_SECONDS), wired.db.reading() as tx:
            await tx.execute(text("SELECT 1"))
    except Exception as error:
        raise Unavailable("Postgres does not answer.") from error
    return {"status": "ready"}
