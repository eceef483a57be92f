"""How a route asks who is calling, and for which roles it opens."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.accounts.callers import (
    ADMIN_KEY,
    ROLES,
    Actor,
    Caller,
    KeyUnknown,
    Role,
    RoleForbidden,
    acting,
    credentials,
    find_caller,
    is_admin_key,
)
from app.accounts.last_used import LastUsed
from app.wiring import Wired

BEARER: Final = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    bearerFormat="fg_…",
    description="A key of this gateway. `Authorization: Key fg_…` is taken as well.",
)
_Documented = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


async def calling(request: Request, wired: Wired, _documented: _Documented = None) -> Caller:
    """Who is calling, whatever its role. Raises KeyUnknown, and RoleForbidden for ADMIN_KEY."""
    secret_hash = credentials(request.scope["headers"], admin_key=wired.settings.admin_key)
    async with wired.db.reading() as tx:
        caller = await find_caller(tx, secret_hash, now=wired.clock())
    if caller is None:
        raise KeyUnknown
    last_used: LastUsed = request.app.state.last_used
    last_used.saw_caller(caller)
    return caller


def require_role(*roles: Role) -> Callable[..., Awaitable[Actor]]:
    """A dependency: a caller with one of these roles, or ADMIN_KEY where `admin` is among them.

    It raises KeyUnknown, or RoleForbidden naming the roles that may.
    """

    async def actor(request: Request, wired: Wired, _documented: _Documented = None) -> Actor:
        if "admin" in roles and is_admin_key(request.scope["headers"], wired.settings.admin_key):
            return ADMIN_KEY
        caller = await calling(request, wired)
        if caller.role not in roles:
            raise RoleForbidden(roles)
        return acting(caller)

    return actor


Calling = Annotated[Caller, Depends(calling)]
"""The parameter of a route that any user may call, and ADMIN_KEY may not."""

AnyActor = Annotated[Actor, Depends(require_role(*ROLES))]
"""The parameter of a route for every role and ADMIN_KEY; what each may see is the use-case's to say."""

Admin = Annotated[Actor, Depends(require_role("admin"))]
"""The parameter of a route for admins and ADMIN_KEY."""
