"""`/v1/audit-log`: for admins."""

from typing import Annotated, Final

from fastapi import APIRouter, Query

from app.accounts import audit_log
from app.accounts.access import Admin
from app.accounts.shapes import AuditEntry, AuditQuery
from app.http import JsonRoute, Page
from app.problems import responses
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["audit log"])


@router.get("/v1/audit-log", operation_id="list_audit_log", responses=responses(401, 403, 422, 503))
async def list_audit_log(query: Annotated[AuditQuery, Query()], _: Admin, wired: Wired) -> Page[AuditEntry]:
    """List the changes that people made to teams, users, keys and the rest."""
    async with wired.db.reading() as tx:
        return await audit_log.list_entries(tx, query)
