"""Submitting by fal's protocol: the model's input as the body, everything else in the query and the headers."""

import re
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from app import logs
from app.accounts.access import credential_of, read_for_known
from app.accounts.callers import Credential
from app.catalogue.endpoint import Endpoint
from app.catalogue.fields import images_below
from app.compat.line import Line
from app.compat.repeats import HeardResponse, Repeats, Told
from app.compat.status import urls_of
from app.http import base_url, parse_json, require_json_type
from app.ids import show
from app.jobs.rooms import rooms_of
from app.jobs.submits.request import (
    Ours,
    Submission,
    as_given,
    fingerprint,
    key_within,
    read_beside,
    read_idempotency_key,
    refusal_of_webhook,
)
from app.outward.targets import LONGEST_URL
from app.problems import InvalidInput, MethodNotAllowed, NotFound, input_faults
from app.settings import Settings
from app.tokens import Grant
from app.wiring import Wiring, wiring_of

_MOST_TAGS: Final = 10
_TAGS_BYTES: Final = 1024
_TAG: Final = re.compile(r"(?!fal\.)[a-z0-9._-]{1,64}=[ -~]{1,256}")
_START_HEADERS: Final = ("x-fal-request-start-timeout", "x-fal-request-timeout")  # the newer name counts first
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

Faults = list[dict[str, str]]


async def answer_submit(request: Request, endpoint: str) -> Response:
    """`POST {endpoint}`: 200 with fal's words for a job that is stored and whose price is promised (FAL.md 1.1)."""
    submission = await read_call(request, endpoint)
    line = Line(request)
    try:
        told = await repeats_of(request).submit(submission, line)
    except BaseException:
        line.close()
        raise
    logs.job_id.set(show("job", told.job_id))
    return HeardResponse(_accepted(request, submission.endpoint, told), told, line)


def repeats_of(request: Request) -> Repeats:
    """What this application remembers answers by."""
    repeats: Repeats = request.app.state.repeats
    return repeats


def _accepted(request: Request, endpoint: Endpoint, told: Told) -> Response:
    wiring = wiring_of(request)
    job_id = show("job", told.job_id)
    urls = urls_of(wiring.settings.public_url or base_url(request), endpoint.id, told.job_id)
    body = {"status": "IN_QUEUE", "request_id": job_id, **urls, "queue_position": 0}
    headers = {"x-fal-request-id": job_id} | ({} if told.is_new else {"Idempotent-Replayed": "true"})
    return Response(to_json(body), media_type="application/json", headers=headers)


async def read_call(request: Request, endpoint: str) -> Submission:
    """What is asked for. Raises what refuses it, but to whoever has no key only that."""
    wiring = wiring_of(request)
    credential = credential_of(request, wiring)
    return await read_for_known(
        request,
        wiring,
        credential,
        lambda: _read(request, wiring, credential, endpoint),
        refused=rooms_of(request).refusals.count_caller,
    )


async def _read(request: Request, wiring: Wiring, credential: Credential, endpoint_id: str) -> Submission:
    if request.method != "POST":
        raise MethodNotAllowed("Submit with POST.", headers={"Allow": "POST"})
    credential.require_submit()
    endpoint = _require_served(wiring, endpoint_id)
    require_json_type(request.headers.get("content-type"))
    body = await request.body()
    faults: Faults = []
    key = read_idempotency_key(request, faults)
    start_seconds = _start_seconds(request, faults)
    ours = _read_ours(request, wiring, credential.grant, faults)
    given, shown, payload = await read_beside(body, lambda: _read_input(body, endpoint, wiring.settings))
    if faults:
        raise InvalidInput(faults)
    return Submission(
        secret_hash=credential.secret_hash,
        endpoint=endpoint,
        given=shown,
        payload=payload,
        tags=ours.tags,
        end_user=ours.end_user,
        seconds=endpoint.seconds(given),
        idempotency_key=key_within(credential.grant.end_user if credential.grant else None, key),
        fingerprint=fingerprint(endpoint, shown, ours, "fal", start_seconds),
        wait_seconds=None,
        webhook_url=ours.webhook_url,
        webhook_shape="fal" if ours.webhook_url is not None else None,
        start_seconds=start_seconds,
    )


def _require_served(wiring: Wiring, endpoint_id: str) -> Endpoint:
    endpoint = wiring.catalogue.by_id(endpoint_id)
    if endpoint is None:
        served = ", ".join(endpoint.id for endpoint in wiring.catalogue.endpoints)
        raise NotFound(f"Path /{endpoint_id[:200]} not found: this gateway serves {served}.")
    return endpoint


def _read_input(body: bytes, endpoint: Endpoint, settings: Settings) -> tuple[Any, dict[str, Any], str | None]:
    """The input as the model's type, as it is shown, and as it is sent where that is something else."""
    try:
        context = images_below(settings.fal_rest_url, settings.fal_queue_url)
        given = endpoint.input.model_validate(parse_json(body), context=context)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise InvalidInput(input_faults(found), found=found) from None
    return given, *as_given(endpoint, given)


def _read_ours(request: Request, wiring: Wiring, grant: Grant | None, faults: Faults) -> Ours:
    """What fal's protocol has for the fields of a submit that are ours. Of the query only `fal_webhook` is heeded."""
    webhook_url = request.query_params.get("fal_webhook") or None
    refusal = refusal_of_webhook(webhook_url, wiring.settings)
    if len(request.query_params.getlist("fal_webhook")) > 1:
        refusal = "must be given once"
    if webhook_url is not None and len(webhook_url) > LONGEST_URL:
        refusal = f"must have at most {LONGEST_URL} characters"
    if refusal:
        faults.append({"parameter": "fal_webhook", "detail": refusal})
    end_user = _end_user(request, grant, faults)
    return Ours.model_construct(tags=_tags(request), end_user=end_user, webhook_url=webhook_url)


def _end_user(request: Request, grant: Grant | None, faults: Faults) -> str | None:
    """Of `X-End-User`, in UTF-8, or of the token's grant."""
    granted = grant.end_user if grant else None
    sent = request.headers.getlist("x-end-user")
    if not sent:
        return granted
    if len(sent) > 1:  # one of them may be a visitor's own, before that of the server that passes it on
        faults.append({"header": "X-End-User", "detail": "must be sent once"})
        return None
    (given,) = sent
    try:
        end_user = given.encode("latin-1").decode()
        Ours.model_validate({"end_user": end_user})
    except ValueError:
        faults.append({"header": "X-End-User", "detail": "must be 1 to 128 characters, in UTF-8"})
        return None
    if granted is not None and end_user != granted:
        faults.append({"header": "X-End-User", "detail": "must be the one that this token was made for, or left out"})
    return end_user


def _tags(request: Request) -> dict[str, str]:
    """Of `X-Fal-Tags: name=value,…`; as at fal, those that cannot be tags are silently left out (FAL.md 1.7)."""
    given = ",".join(request.headers.getlist("x-fal-tags"))
    if len(given) > _TAGS_BYTES:
        return {}
    pairs = [pair.strip() for pair in given.split(",")]
    tags = dict(pair.split("=", 1) for pair in pairs if _TAG.fullmatch(pair))
    return dict(list(tags.items())[:_MOST_TAGS])


def _start_seconds(request: Request, faults: Faults) -> float | None:
    """The start deadline that the caller asks for, from now."""
    name = next((name for name in _START_HEADERS if name in request.headers), None)
    if name is None:
        return None
    given = ",".join(request.headers.getlist(name)).strip()
    if _SECONDS.fullmatch(given) is None or float(given) <= 0:
        faults.append({"header": name, "detail": "must be a number of seconds, once"})
        return None
    return float(given)
