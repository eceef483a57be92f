"""Calls about one job in fal's protocol: its status, its stream, its result, and cancelling it.

They are answered from the job's row: a caller's read never calls fal, however often it comes.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, assert_never
from uuid import UUID

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response

from app import logs
from app.accounts.access import credential_of, require_caller
from app.accounts.callers import Credential
from app.compat.ends import read_end
from app.compat.paths import RequestCall, is_base_of
from app.compat.status import status_body, stream_status, urls_of
from app.http import base_url
from app.ids import show
from app.jobs.ends.cancel import JobEnded, cancel_job
from app.jobs.reads.glance import Glance, Wanted
from app.jobs.reads.seats import SeatedResponse
from app.jobs.reads.wait import asked_now
from app.jobs.rooms import Rooms, rooms_of
from app.jobs.states import ENDED
from app.problems import MethodNotAllowed, NotFound
from app.tokens import TokenUnknown

_YES: Final = ("1", "true")  # JavaScript's word and Python's (FAL.md 1.3)
_NO_LOG: Final = (b"", b"logs=0", b"logs=false")
_STILL: Final = "Request is still in progress"
_UNKNOWN: Final = "No request of this id is yours to see under this endpoint: check the id, the endpoint and the key."
_ERASED: Final = "What this request returned has been erased."
_TOO_LATE: Final = "This request has ended: there is nothing left to cancel."


async def answer_about(request: Request, call: RequestCall) -> Response:
    """The answer to `GET …/requests/{id}[/status[/stream]]` and `PUT …/requests/{id}/cancel`; raises Problems."""
    method = "PUT" if call.kind == "cancel" else "GET"
    if request.method != method:
        raise MethodNotAllowed(f"Use {method}.", headers={"Allow": method})
    logs.job_id.set(None if call.job_id is None else show("job", call.job_id))
    credential = credential_of(request, rooms_of(request).wiring, job_id=call.job_id)
    return await _About(request, call, credential).answer()


async def answer_result(request: Request, call: RequestCall, credential: Credential) -> Response:
    """The result of a job that this very request has waited for, however long ago its token was good."""
    return await _About(request, call, credential).answer()


class _About:
    """One call about one job."""

    def __init__(self, request: Request, call: RequestCall, credential: Credential) -> None:
        self._request = request
        self._call = call
        self._rooms: Rooms = rooms_of(request)
        self._credential = credential
        self._with_log = call.kind in {"status", "stream"} and _wants_log(request)

    async def answer(self) -> Response:
        """Raises KeyUnknown, TokenUnknown, RoleForbidden, and what cancelling raises."""
        try:
            glance = await self._look()
        except NotFound:
            return self._not_found()
        job_id = self._call.job_id
        if job_id is None or not is_base_of(self._call.base, glance.endpoint):
            return self._not_found()
        match self._call.kind:
            case "status":
                return self._status(job_id, glance)
            case "stream":
                return self._stream(job_id, glance)
            case "result":
                return self._result(glance)
            case "cancel":
                return await self._cancel(job_id, glance)
            case _:
                assert_never(self._call.kind)

    async def _look(self) -> Glance:
        asked = asked_now(self._rooms, self._credential, self._call.job_id)
        if self._call.kind == "stream" and asked.grant is not None and asked.grant.expires_at <= asked.now:
            raise TokenUnknown
        with_result = self._call.kind == "result"
        return await self._rooms.glances.read(Wanted(asked, with_log=self._with_log, with_result=with_result))

    def _status(self, job_id: UUID, glance: Glance) -> Response:
        body = status_body(job_id, glance, self._urls(job_id, glance))
        return self._reply(HTTPStatus.OK if glance.status in ENDED else HTTPStatus.ACCEPTED, body)

    def _stream(self, job_id: UUID, glance: Glance) -> Response:
        events = stream_status(self._rooms, job_id, self._look, self._urls(job_id, glance))
        headers = {"X-Accel-Buffering": "no", **self._identity}
        return SeatedResponse(events, seats=self._rooms.seats, credential=self._credential, headers=headers)

    def _result(self, glance: Glance) -> Response:
        """What fal answered, replayed (FAL.md 1.5)."""
        if glance.status not in ENDED:
            return self._tell(HTTPStatus.BAD_REQUEST, {"detail": _STILL, "message": _STILL})
        if glance.error is not None:
            end = read_end(glance.error, glance.fal_reply)
            return self._tell(end.code, end.body, end.headers)
        if glance.output is None:
            return self._tell(HTTPStatus.NOT_FOUND, {"status": "NOT_FOUND", "detail": _ERASED, "message": _ERASED})
        headers = from_json(glance.fal_reply)["headers"] if glance.fal_reply is not None else {}
        return self._reply(HTTPStatus.OK, glance.output.encode(), headers)

    async def _cancel(self, job_id: UUID, glance: Glance) -> Response:
        """200 when it is canceled, 202 when that was asked of fal: as fal tells one in its queue from one that runs."""
        self._credential.require_submit()
        caller = await require_caller(self._request, self._rooms.wiring, self._credential.secret_hash)
        if glance.status in ENDED:
            return self._too_late()
        try:
            status, _ = await cancel_job(self._rooms, caller, job_id, self._credential.grant)
        except JobEnded:
            return self._too_late()
        word = "OK" if status == HTTPStatus.OK else "CANCELLATION_REQUESTED"
        return self._tell(status, {"status": word})

    def _too_late(self) -> Response:
        told = {"status": "ALREADY_COMPLETED", "detail": _TOO_LATE, "message": _TOO_LATE}
        return self._tell(HTTPStatus.BAD_REQUEST, told)

    def _not_found(self) -> Response:
        told = {"status": "NOT_FOUND", "detail": _UNKNOWN, "message": _UNKNOWN}
        return self._tell(HTTPStatus.NOT_FOUND, told)

    def _urls(self, job_id: UUID, glance: Glance) -> dict[str, str]:
        origin = self._rooms.wiring.settings.public_url or base_url(self._request)
        return urls_of(origin, glance.endpoint, job_id)

    @property
    def _identity(self) -> dict[str, str]:
        """FAL.md 1.7; what cannot be a job has the request's own, as any other answer."""
        return {} if self._call.job_id is None else {"x-fal-request-id": show("job", self._call.job_id)}

    def _tell(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
        return self._reply(status, to_json(body), headers)

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        return Response(body, status, {**(headers or {}), **self._identity}, media_type="application/json")


def _wants_log(request: Request) -> bool:
    """Most calls have no query, or one that says no: that is known without reading it in full."""
    if request.scope["query_string"] in _NO_LOG:
        return False
    return request.query_params.get("logs", "").lower() in _YES
