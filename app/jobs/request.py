"""From an HTTP request to a submission: what was asked for, with every fault named at once."""

import asyncio
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema, create_model
from pydantic_core import to_json
from starlette.requests import Request

from app.catalogue.endpoint import Category, Endpoint, Input
from app.catalogue.fields import NO_NUL, show_image
from app.catalogue.registry import Catalogue
from app.http import parse_json, require_json_type
from app.outward.targets import LONGEST_URL, refusal_of
from app.problems import InvalidInput, input_faults
from app.settings import Settings

DEFAULT_MODEL: Final = "kling-2.1-master"
LONGEST_WAIT_SECONDS: Final = 300
_BARE_WAIT_SECONDS: Final = 60
_PARSE_BESIDE_BYTES: Final = 200_000  # an image's base64 takes milliseconds: not on the event loop

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
        Annotated[str, Field(min_length=1, max_length=128), NO_NUL] | None,
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
    """A submit whose every field is right. `given` is fal's input with defaults filled in, as it is shown."""

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


async def read_submission(
    request: Request, category: Category, *, secret_hash: bytes, catalogue: Catalogue, settings: Settings
) -> Submission:
    """Raises NotJson, BodyTooLarge (from the body's limit) or InvalidInput."""
    require_json_type(request.headers.get("content-type"))
    body = await request.body()
    faults: list[dict[str, str]] = []
    key = _idempotency_key(request, faults)
    wait_seconds = read_wait(request, faults)
    if len(body) > _PARSE_BESIDE_BYTES:
        parsed = await asyncio.to_thread(_read_body, body, category, catalogue, settings, faults)
    else:
        parsed = _read_body(body, category, catalogue, settings, faults)
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
        idempotency_key=key,
        fingerprint=_fingerprint(endpoint, shown, fields),
        wait_seconds=wait_seconds,
    )


def _read_body(
    body: bytes, category: Category, catalogue: Catalogue, settings: Settings, faults: list[dict[str, str]]
) -> tuple[Endpoint, Ours, dict[str, Any], str | None] | None:
    data = parse_json(body)
    if not isinstance(data, dict):
        faults.append({"pointer": "", "detail": "the body must be a JSON object"})
        return None
    faults += _faults_of_webhook(data.get("webhook_url"), settings)
    endpoint = _endpoint(data, category, catalogue, faults)
    if endpoint is None:
        faults += _faults_of_ours(data)
        return None
    try:
        fields = body_type(endpoint).model_validate(data)
    except ValidationError as error:
        faults += input_faults(error.errors(include_url=False, include_input=False))
        return None
    sent = {name: getattr(fields, name) for name in endpoint.input.model_fields}
    shown = {name: show_image(value) if name in endpoint.image_fields else value for name, value in sent.items()}
    return endpoint, fields, shown, (to_json(sent).decode() if sent != shown else None)


def _endpoint(data: Any, category: Category, catalogue: Catalogue, faults: list[dict[str, str]]) -> Endpoint | None:
    name = data.get("model", DEFAULT_MODEL)
    endpoint = catalogue.find(category, name) if isinstance(name, str) else None
    if endpoint is None:
        served = ", ".join(catalogue.models(category))
        faults.append({"pointer": "/model", "detail": f"not served for {category}; these are: {served}"})
    return endpoint


def _faults_of_webhook(url: Any, settings: Settings) -> list[dict[str, str]]:
    """What this gateway has against a URL; whether it is a text of a right length, the body's type says."""
    if not isinstance(url, str) or len(url) > LONGEST_URL:
        return []
    detail = refusal_of(url, allow_private=settings.webhook_allow_private)
    if settings.secret_key is None:
        detail = "this gateway sends no webhooks: whoever runs it must set SECRET_KEY first"
    return [] if detail is None else [{"pointer": "/webhook_url", "detail": detail}]


def _faults_of_ours(data: Any) -> list[dict[str, str]]:
    """What can be said of a body whose model is not known: whether our own fields are right."""
    try:
        Ours.model_validate({name: data[name] for name in ("tags", "end_user", "webhook_url") if name in data})
    except ValidationError as error:
        return input_faults(error.errors(include_url=False, include_input=False))
    return []


def _fingerprint(endpoint: Endpoint, shown: Mapping[str, Any], fields: Ours) -> bytes:
    """Equal for two requests that ask for the same: same endpoint, input, tags, end user and webhook."""
    asked = [endpoint.id, sorted(shown.items()), sorted(fields.tags.items()), fields.end_user]
    if fields.webhook_url is not None:  # without one it is what earlier releases wrote
        asked.append(fields.webhook_url)
    return hashlib.sha256(to_json(asked)).digest()


def _idempotency_key(request: Request, faults: list[dict[str, str]]) -> str | None:
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
