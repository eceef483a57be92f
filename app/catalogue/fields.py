"""Types of input fields that several endpoints share."""

import base64
import binascii
import hashlib
import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

_DATA_URI: Final = re.compile(r"data:(image/[a-z0-9.+-]{1,40});base64,", re.IGNORECASE)
_LONGEST_LINK: Final = 8192


def _no_nul(text: str | None) -> str | None:
    """Postgres stores every character but this one."""
    if text is not None and "\0" in text:
        message = "must not contain the NUL character"
        raise ValueError(message)
    return text


NO_NUL: Final = AfterValidator(_no_nul)


def _as_text(value: object) -> object:
    """Fal's type is a string; an integer is taken too (FAL.md 7.2: whether fal coerces it is not known)."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


FiveOrTen = Annotated[
    Literal["5", "10"],
    BeforeValidator(_as_text),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "enum": ["5", "10"]}, {"type": "integer", "enum": [5, 10]}]},
        mode="validation",
    ),
]
"""Seconds of video: fal's enum of strings (FAL.md 7.2)."""


def images_below(*fal_urls: str) -> dict[str, tuple[str, ...]]:
    """The validation context in which images may also lie below these URLs: a sandbox's own storage is plain http."""
    return {"images_below": tuple(f"{url}/" for url in fal_urls)}


def _image(value: str, info: ValidationInfo) -> str:
    if value[:5].lower() == "data:":
        return _data_uri(value)
    parts = _split(value)
    is_at_fal = value.startswith((info.context or {}).get("images_below", ()))
    if (
        parts is None
        or (parts.scheme != "https" and not is_at_fal)
        or not parts.hostname
        or parts.username
        or len(value) > _LONGEST_LINK
    ):
        raise _no_image(f"must be an https URL (at most {_LONGEST_LINK} characters) or a data URI of an image")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise _no_image("an https URL has only printable ASCII characters: percent-encode the others")
    return value


def _no_image(message: str) -> PydanticCustomError:
    """As fal calls it, when it cannot read an image's address (FAL.md 2.2)."""
    return PydanticCustomError("file_download_error", "{message}", {"message": message})


def _split(value: str) -> Any:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _data_uri(value: str) -> str:
    head = _DATA_URI.match(value)
    if head is None:
        raise _no_image("a data URI must begin with data:image/…;base64,")
    try:
        content = base64.b64decode(value[head.end() :].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        content = b""
    if not content:
        raise _no_image("the data URI's base64 cannot be decoded, or is empty")
    return value


ImageUrl = Annotated[
    str,
    AfterValidator(_image),
    Field(
        description="An https URL, or a data URI (data:image/png;base64,…).",
        json_schema_extra={"format": "uri"},
        min_length=1,
    ),
]


def show_image(value: str) -> str:
    """How an image is shown everywhere outside fal: a link as it is, a data URI by its size and digest."""
    head = _DATA_URI.match(value)
    if head is None:
        return value
    content = base64.b64decode(value[head.end() :])
    digest = hashlib.sha256(content).hexdigest()
    return f"data:{head[1].lower()};bytes={len(content)};sha256={digest}"
