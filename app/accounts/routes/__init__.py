"""The routes of this room."""

from typing import Final

from fastapi import APIRouter

from app.accounts.routes import audit_log, freezes, keys, teams, users

router: Final = APIRouter()
for room in (teams, users, keys, freezes, audit_log):
    router.include_router(room.router)
