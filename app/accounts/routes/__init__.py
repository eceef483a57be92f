"""The routes of this room."""

from typing import Final

from fastapi import APIRouter

from app.accounts.routes import audit_log, keys, teams, users

router: Final = APIRouter()
for room in (teams, users, keys, audit_log):
    router.include_router(room.router)
