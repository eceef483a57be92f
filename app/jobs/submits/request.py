"""From an HTTP request to a submission: what was asked for, with every fault named at once."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema, create_model
from pydantic_core import to_json
from starlette.requests import Request

from app.catalogue.endpoint import Category, Endpoint, Input
from app.catalogue.fields import NO_NUL, images_below, show_image
from app.catalogue.registry import Catalogue
from app.http import parse_json, require_json_type
from app.outward.targets import LONGEST_URL, refusal_of
from app.problems import InvalidInput, input_faults
from app.settings import Settings
from app.tokens import Grant

DEFAULT_MODEL: Final = "kling-2.1-master"
LONGEST_WAIT_SECONDS: Final = 300
_BARE_WAIT_SECONDS: Final = 60
_PARSE_BESIDE_BYTES: Final = 200_000  # an image's base64 takes milliseconds: not on the event loop

Read = TypeVar("Read")

_TAG_NAME: Final = re.compile(r"[a-z0-9._-]{1,64}")


def _tag_name(name: str) -> str:
    if _TAG_NAME.fullmatch(name) is None:
        message = "a tag's name is 1 to 64 of the characters a-z, 0-9, dot, underscore and hyphen"
        raise ValueError(message)
    return name


TagName = Annotated[
    str, AfterValidator(_tag_name), WithJsonSchema({"type": "string", "pattern": "^[a-z0-9._-]{1,64}$"})
]


def _few(value: object) -> object:
    if isinstance(value, dict) and len(value) > 10:  # noqa: PLR2004
        message = "at most 10 tags"
        raise ValueError(message)
    return value


EndUser = Annotated[str, Field(min_length=1, max_length=128), NO_NUL]
"""The caller's own name for its visitor."""


class Ours(Input):
    """The fields of a submit that are falgate's own, beside fal's."""

    model: Annotated[str, Field(description="A model's short name, or fal's endpoint id.")] = DEFAULT_MODEL
    tags: Annotated[
        dict[TagName, Annotated[str, Field(max_length=256), NO_NUL]],
        BeforeValidator(_few),
        Field(
            description="At most 10, for reports.",
            json_schema_extra={"maxProperties": 10, "additionalProperties": False},
        ),
    ] = Field(default_factory=dict)
    end_user: Annotated[
        EndUser | None,
        Field(description="Your own name for your visitor."),
    ] = None
    webhook_url: Annotated[
        Annotated[str, Field(max_length=LONGEST_URL, json_schema_extra={"format": "uri"})] | None,
        Field(
            description="Where to POST the job when it has ended (Standard Webhooks): a public https URL.",
            examples=["https://hooks.example.com/falgate"],
        ),
    ] = None


@cache
def body_type(endpoint: Endpoint) -> type[Ours]:
    """The body of a submit to this endpoint: fal's fields and ours, flat."""
    return create_model(f"{endpoint.input.__name__}Body", __base__=(endpoint.input, Ours))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A submit whose every field is right. `given` is fal's input with defaults filled in, as it is shown.

    `webhook_shape` is `fal` for a webhook as fal would send it; `start_seconds` is the caller's own start deadline.
    """

    secret_hash: bytes
    endpoint: Endpoint
    given: Mapping[str, Any]
    payload: str | None
    tags: Mapping[str, str]
    end_user: str | None
    seconds: Decimal
    idempotency_key: str | None
    fingerprint: bytes
    wait_seconds: int | None
    webhook_url: str | None = None
    webhook_shape: str | None = None
    start_seconds: float | None = None


async def read_submission(
    request: Request,
    category: Category,
    *,
    secret_hash: bytes,
    grant: Grant | None = None,
    catalogue: Catalogue,
    settings: Settings,
) -> Submission:
    """Raises NotJson, BodyTooLarge (from the body's limit) or InvalidInput.

    The end user of a token's grant stands on the submission, and its idempotency keys are that end user's own.
    """
    require_json_type(request.headers.get("content-type"))
    body = await request.body()
    faults: list[dict[str, str]] = []
    end_user = grant.end_user if grant else None
    key = read_idempotency_key(request, faults)
    wait_seconds = read_wait(request, faults)
    parsed = await read_beside(body, lambda: _read_body(body, end_user, category, catalogue, settings, faults))
    if faults or parsed is None:
        raise InvalidInput(faults)
    endpoint, fields, shown, payload = parsed
    return Submission(
        secret_hash=secret_hash,
        endpoint=endpoint,
        given=shown,
        payload=payload,
        tags=fields.tags,
        end_user=fields.end_user,
        webhook_url=fields.webhook_url,
        seconds=endpoint.seconds(fields),
        idempotency_key=key_within(end_user, key),
        fingerprint=fingerprint(endpoint, shown, fields),
        wait_seconds=wait_seconds,
    )


async def read_beside(body: bytes, read: Callable[[], Read]) -> Read:
    """Call `read`, and not on the event loop where the body that it looks at is large."""
    return await asyncio.to_thread(read) if len(body) > _PARSE_BESIDE_BYTES else read()


def key_within(end_user: str | None, key: str | None) -> str | None:
    """What an idempotency key is stored as: of a token's end user so that no other one's, nor the key's, is met."""
    return key if key is None or end_user is None else f"«{end_user}» {key}"


def _read_body(
    body: bytes,
    end_user: str | None,
    category: Category,
    catalogue: Catalogue,
    settings: Settings,
    faults: list[dict[str, str]],
) -> tuple[Endpoint, Ours, dict[str, Any], str | None] | None:
    data = parse_json(body)
    if not isinstance(data, dict):
        faults.append({"pointer": "", "detail": "the body must be a JSON object"})
        return None
    if end_user is not None and data.get("end_user") is None:
        data["end_user"] = end_user
    elif end_user is not None and data["end_user"] != end_user:
        faults.append({"pointer": "/end_user", "detail": "must be the one that this token was made for, or left out"})
    refusal = refusal_of_webhook(data.get("webhook_url"), settings)
    faults += [{"pointer": "/webhook_url", "detail": refusal}] if refusal else []
    endpoint = _endpoint(data, category, catalogue, faults)
    if endpoint is None:
        faults += _faults_of_ours(data)
        return None
    try:
        context = images_below(settings.fal_rest_url, settings.fal_queue_url)
        fields = body_type(endpoint).model_validate(data, context=context)
    except ValidationError as error:
        faults += input_faults(error.errors(include_url=False, include_input=False))
        return None
    return endpoint, fields, *as_given(endpoint, fields)


def as_given(endpoint: Endpoint, fields: Input) -> tuple[dict[str, Any], str | None]:
    """fal's input as it is shown, and as it is sent, as JSON text, where an image makes that something else.

    A field that was left out and has no default is in neither.
    """
    given = {name: getattr(fields, name) for name in endpoint.input.model_fields}
    sent = {name: value for name, value in given.items() if value is not None}
    shown = {name: show_image(value) if name in endpoint.image_fields else value for name, value in sent.items()}
    return shown, (to_json(sent).decode() if sent != shown else None)


def _endpoint(data: Any, category: Category, catalogue: Catalogue, faults: list[dict[str, str]]) -> Endpoint | None:
    name = data.get("model", DEFAULT_MODEL)
    endpoint = catalogue.find(category, name) if isinstance(name, str) else None
    if endpoint is None:
        served = ", ".join(catalogue.models(category))
        faults.append({"pointer": "/model", "detail": f"not served for {category}; these are: {served}"})
    return endpoint


def refusal_of_webhook(url: Any, settings: Settings) -> str | None:
    """What this gateway has against a URL; whether it is a text of a right length, the body's type says."""
    if not isinstance(url, str) or len(url) > LONGEST_URL:
        return None
    if settings.secret_key is None:
        return "this gateway sends no webhooks: whoever runs it must set SECRET_KEY first"
    return refusal_of(url, allow_private=settings.webhook_allow_private)


def _faults_of_ours(data: Any) -> list[dict[str, str]]:
    """What can be said of a body whose model is not known: whether our own fields are right."""
    try:
        Ours.model_validate({name: data[name] for name in ("tags", "end_user", "webhook_url") if name in data})
    except ValidationError as error:
        return input_faults(error.errors(include_url=False, include_input=False))
    return []


def fingerprint(endpoint: Endpoint, shown: Mapping[str, Any], fields: Ours, *more: object) -> bytes:
    """Equal for two requests that ask for the same: same endpoint, input, tags, end user, webhook, and `more`."""
    asked: list[object] = [endpoint.id, sorted(shown.items()), sorted(fields.tags.items()), fields.end_user]
    if fields.webhook_url is not None:  # without one it is what earlier releases wrote
        asked.append(fields.webhook_url)
    asked += more
    return hashlib.sha256(to_json(asked)).digest()


def read_idempotency_key(request: Request, faults: list[dict[str, str]]) -> str | None:
    """The header of that name, at most one."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    key = given[0]
    if len(given) > 1 or not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():  # noqa: PLR2004
        faults.append({"header": "Idempotency-Key", "detail": "must be 1 to 255 printable ASCII characters, once"})
    return key


def read_wait(request: Request, faults: list[dict[str, str]]) -> int | None:
    """The seconds of `Prefer: wait=N`; bare `wait` is 60. Other preferences are left alone (RFC 7240)."""
    for header in request.headers.getlist("prefer"):
        for preference in header.split(","):
            name, equals, value = preference.partition(";")[0].strip().partition("=")
            if name.strip().lower() != "wait":
                continue
            seconds = value.strip().strip('"')
            if not equals:
                return _BARE_WAIT_SECONDS
            if re.fullmatch("[0-9]{1,9}", seconds) and 1 <= int(seconds) <= LONGEST_WAIT_SECONDS:
                return int(seconds)
            faults.append({"header": "Prefer", "detail": f"wait takes 1 to {LONGEST_WAIT_SECONDS} seconds"})
    return None
