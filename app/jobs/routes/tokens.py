"""`POST /v1/tokens`: a key makes a token, to be handed to a browser."""

from datetime import timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from app.accounts.access import Calling
from app.accounts.callers import Credential, credentials
from app.accounts.fields import Moment
from app.http import Body, JsonRoute
from app.ids import JobId
from app.jobs.reads.wait import asked_now
from app.jobs.rooms import InRooms
from app.jobs.submits.request import EndUser
from app.problems import InvalidInput, Problem, responses
from app.tokens import Grant

router: Final = APIRouter(route_class=JsonRoute, tags=["tokens"])

LONGEST_SECONDS: Final = 86_400
LONGEST_OF_A_JOB_SECONDS: Final = 3_600
_DEFAULT_SECONDS: Final = 600

Scope = Literal["submit", "read"]
"""What a caller may ask for: tokens of the scope `content` stand in `content_url` alone."""


class TokensOff(Problem):
    """This gateway has no SECRET_KEY, with which tokens are sealed: it makes and takes none.

    Whoever runs it sets SECRET_KEY, at least 32 characters, such as `openssl rand -hex 32` prints, and starts it again.
    """

    status = 409

    def __init__(self) -> None:
        super().__init__("Whoever runs this gateway must set SECRET_KEY before there can be tokens.")


class TokenBody(Body):
    """What the token shall open, and for how long."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"scope": "submit", "end_user": "visitor-42", "lifetime_seconds": 600}]}
    )

    scope: Annotated[
        Literal["submit", "read"],  # `content` stands in a content_url, and nowhere else
        Field(description="`submit` submits, estimates, reads and cancels; `read` reads and follows."),
    ]
    end_user: Annotated[
        EndUser | None,
        Field(description="Your own name for your visitor: stands on every job made, and only its jobs are seen."),
    ] = None
    job_id: Annotated[
        JobId | None,
        Field(description="A job of your own, and that alone. Such a token may also be sent as `?token=`."),
    ] = None
    lifetime_seconds: Annotated[
        int, Field(strict=True, ge=1, le=LONGEST_SECONDS, description=f"With a job {LONGEST_OF_A_JOB_SECONDS} at most.")
    ] = _DEFAULT_SECONDS


class MadeToken(BaseModel):
    """A token; it is kept nowhere, and cannot be taken back but by revoking its key or rotating the key's secret."""

    token: Annotated[str, Field(repr=False, examples=["ft_…"])]
    scope: Scope
    end_user: str | None
    job_id: JobId | None
    expires_at: Moment


@router.post(
    "/v1/tokens",
    status_code=201,
    operation_id="create_token",
    summary="Make a token for a browser",
    responses=responses(401, 403, 404, 409, 413, 415, 422, 503),
)
async def create_token(body: TokenBody, caller: Calling, rooms: InRooms, request: Request) -> MadeToken:
    """Made with a key, and good until `expires_at` or until that key's secret is no longer in use.

    It opens submits, files, jobs, their events, logs and content, as far as its scope, end user and job go, and of
    your jobs your own alone; nothing else. Send it as `Authorization: Bearer ft_…` (or `Key ft_…`).
    """
    del caller  # whoever has no key hears that first
    wiring = rooms.wiring
    if wiring.tokens is None:
        raise TokensOff
    _require_fitting(body)
    grant = Grant(
        scope=body.scope,
        expires_at=wiring.clock() + timedelta(seconds=body.lifetime_seconds),
        end_user=body.end_user,
        job_id=body.job_id,
    )
    secret_hash = credentials(request.scope["headers"], admin_key=wiring.settings.admin_key)
    if body.job_id is not None:
        await rooms.reader.read(asked_now(rooms, Credential(secret_hash, grant), body.job_id))
    return MadeToken(
        token=wiring.tokens.mint(secret_hash, grant),
        scope=body.scope,
        end_user=grant.end_user,
        job_id=grant.job_id,
        expires_at=grant.expires_at,
    )


def _require_fitting(body: TokenBody) -> None:
    """Raise InvalidInput for what a token of one job cannot have."""
    faults = []
    if body.job_id is not None and body.scope != "read":
        faults.append({"pointer": "/scope", "detail": "must be read: a token of one job submits nothing"})
    if body.job_id is not None and body.lifetime_seconds > LONGEST_OF_A_JOB_SECONDS:
        detail = f"must be at most {LONGEST_OF_A_JOB_SECONDS} for a token of one job"
        faults.append({"pointer": "/lifetime_seconds", "detail": detail})
    if faults:
        raise InvalidInput(faults)
