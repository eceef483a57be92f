"""Whose a file will be: the user of the key, or of the token, that a request carries."""

from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request

from app.accounts.access import credential_of, require_caller
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

    Raises KeyUnknown, TokenUnknown, TokenForbidden, and RoleForbidden for ADMIN_KEY.
    """
    wiring = wiring_of(request)
    credential = credential_of(request, wiring)
    credential.require_submit()
    caller = await require_caller(request, wiring, credential.secret_hash)
    return Owner(
        user_id=caller.user_id,
        team_id=caller.team_id,
        key_id=caller.key_id,
        end_user=credential.grant.end_user if credential.grant else None,
    )
