"""Whose a file will be: the user of the key, or of the token, that a request carries."""

from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request

from app.accounts.callers import KeyUnknown, find_caller, read_credential
from app.accounts.last_used import LastUsed
from app.tokens import TokenUnknown
from app.wiring import wiring_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A user with its team, the key it used, and its visitor if a token names one."""

    user_id: UUID
    team_id: UUID
    key_id: UUID
    end_user: str | None = None


async def find_owner(request: Request) -> Owner:
    """Whoever asks, if they may add files: any key, or a token of the scope `submit`; the body is not read.

    Raises KeyUnknown, TokenUnknown, and RoleForbidden for ADMIN_KEY.
    """
    wiring = wiring_of(request)
    now = wiring.clock()
    credential = read_credential(request.scope["headers"], settings=wiring.settings, tokens=wiring.tokens, now=now)
    grant = credential.grant
    if grant is not None and grant.scope != "submit":
        raise TokenUnknown
    async with wiring.db.reading() as tx:
        caller = await find_caller(tx, credential.secret_hash, now=now)
    if caller is None:
        raise KeyUnknown if grant is None else TokenUnknown
    last_used: LastUsed = request.app.state.last_used
    last_used.saw_caller(caller)
    return Owner(
        user_id=caller.user_id,
        team_id=caller.team_id,
        key_id=caller.key_id,
        end_user=grant.end_user if grant is not None else None,
    )
