"""How a route asks who is calling, and for which roles it opens."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final, TypeVar
from uuid import UUID

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.accounts.callers import (
    ADMIN_KEY,
    ROLES,
    Actor,
    Caller,
    Credential,
    KeyUnknown,
    Role,
    RoleForbidden,
    acting,
    credentials,
    find_caller,
    is_admin_key,
    read_credential,
)
from app.accounts.last_used import LastUsed
from app.ids import parse
from app.problems import Problem
from app.tokens import TokenUnknown
from app.wiring import Wired, Wiring

Read = TypeVar("Read")
Refused = Callable[[Caller, Problem], None]

_READ_UNASKED_BYTES: Final = 100_000

BEARER: Final = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    bearerFormat="fg_…",
    description="A key of this gateway. `Authorization: Key fg_…` is taken as well.",
)
_Documented = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]

TOKEN: Final = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    bearerFormat="ft_…",
    description="A token that a key made with `POST /v1/tokens`. `Authorization: Key ft_…` is taken as well.",
)
_DocumentedToken = Annotated[HTTPAuthorizationCredentials | None, Security(TOKEN)]


async def calling(request: Request, wired: Wired, _documented: _Documented = None) -> Caller:
    """Who is calling, whatever its role. Raises KeyUnknown, RoleForbidden for ADMIN_KEY, TokenUnknown for a token."""
    secret_hash = credentials(request.scope["headers"], admin_key=wired.settings.admin_key)
    return await require_caller(request, wired, secret_hash)


async def require_caller(request: Request, wiring: Wiring, secret_hash: bytes) -> Caller:
    """Whose secret this is, and that they were here. Raises KeyUnknown unless key, user and team are live."""
    async with wiring.db.reading() as tx:
        caller = await find_caller(tx, secret_hash, now=wiring.clock())
    if caller is None:
        raise KeyUnknown
    last_used: LastUsed = request.app.state.last_used
    last_used.saw_caller(caller)
    return caller


def credential_of(
    request: Request, wiring: Wiring, *, job_id: UUID | None = None, in_query: bool = False, for_content: bool = False
) -> Credential:
    """The key or the token of a request to a route that takes both; asks no database.

    `job_id` is the job that the route is about, if it is about one. Where no header can be sent (`in_query`: events
    and content) `?token=` counts before a header, and only with a token of this one job.
    A token that stands in a `content_url` opens nothing but what is `for_content`.

    Raises KeyUnknown, RoleForbidden for ADMIN_KEY, and TokenUnknown.
    """
    in_query = in_query and b"token=" in request.scope["query_string"]  # spelled so, or the edge would not count it
    given = request.query_params.getlist("token") if in_query else []
    if len(given) > 1:
        raise TokenUnknown
    return read_credential(
        request.scope["headers"],
        settings=wiring.settings,
        tokens=wiring.tokens,
        now=wiring.clock(),
        job_id=job_id,
        in_query=given[0] if given else None,
        for_content=for_content,
    )


async def read_for_known(
    request: Request,
    wiring: Wiring,
    credential: Credential,
    read: Callable[[], Awaitable[Read]],
    *,
    refused: Refused | None = None,
) -> Read:
    """What `read` makes of a request, or what is wrong with it; but whoever has no live key hears that instead.

    `refused` is told whose request it is that something is wrong with, and what.
    """
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > _READ_UNASKED_BYTES:
        await require_caller(request, wiring, credential.secret_hash)  # of a stranger no image is taken into memory
    try:
        return await read()
    except Problem as problem:
        caller = await require_caller(request, wiring, credential.secret_hash)
        if refused is not None:
            refused(caller, problem)
        raise


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who is calling, and by what: a key, or a token with its grant."""

    caller: Caller
    credential: Credential


async def admitted(
    request: Request, wired: Wired, _documented: _Documented = None, _token: _DocumentedToken = None
) -> Admitted:
    """As `calling`, for a route of jobs that takes tokens too; the job it is about is the `id` of its path."""
    job_id = parse("job", request.path_params.get("id", ""))
    credential = credential_of(request, wired, job_id=job_id)
    return Admitted(await require_caller(request, wired, credential.secret_hash), credential)


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

Admitting = Annotated[Admitted, Depends(admitted)]
"""The parameter of a route of jobs that any user may call, with a key or with a token."""

AnyActor = Annotated[Actor, Depends(require_role(*ROLES))]
"""The parameter of a route for every role and ADMIN_KEY; what each may see is the use-case's to say."""

Admin = Annotated[Actor, Depends(require_role("admin"))]
"""The parameter of a route for admins and ADMIN_KEY."""
