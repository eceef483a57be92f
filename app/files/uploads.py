"""An image on its way in: read in constant memory, and looked at before it is believed."""

import asyncio
import hashlib
import mimetypes
import re
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

import filetype
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from app.problems import BodyTooLarge, InvalidInput, Problem

FRAMING_BYTES: Final = 16_384
"""What a multipart body may weigh beside the one file in it."""

_HEAD_BYTES: Final = 261  # all that `filetype` looks at
_CHUNK_BYTES: Final = 262_144
_LONGEST_NAME: Final = 100
_SAME: Final = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}
_SAYS_NOTHING: Final = ("", "application/octet-stream")
_KNOWN: Final = mimetypes.MimeTypes()  # its own table, not this machine's
_ODD: Final = re.compile(r"[^A-Za-z0-9._-]+")
_ONE_PART: Final = "send one part called `file`, with a filename, as `curl -F file=@cat.png` does"


class NotMultipart(Problem):
    """The body is not multipart/form-data.

    Send one file as the part `file`: `curl -F file=@cat.png` does, and so does `files={"file": …}` of httpx and
    `FormData` of a browser, as long as you do not set Content-Type yourself.
    """

    status = 415
    title = "Not multipart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An image that is what it says, on disk if it is large; `name` is clean."""

    name: str
    content_type: str
    size_bytes: int
    sha256: bytes
    file: BinaryIO

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes, from the beginning."""
        await asyncio.to_thread(self.file.seek, 0)
        while chunk := await asyncio.to_thread(self.file.read, _CHUNK_BYTES):
            yield chunk


@asynccontextmanager
async def reading_upload(request: Request, *, types: Collection[str], most_bytes: int) -> AsyncIterator[Upload]:
    """The one image in a multipart body; gone when the block ends.

    Raises NotMultipart, BodyTooLarge, and InvalidInput for another form than one file, for what is no image of these
    `types`, and for one that is not what its name or its Content-Type says.
    """
    part = await _read_part(request)
    try:
        if (part.size or 0) > most_bytes:
            raise BodyTooLarge(f"A file may have at most {most_bytes} bytes.", limit_bytes=most_bytes)
        head, digest = await asyncio.to_thread(_look_at, part.file)
        content_type = filetype.guess_mime(head) or ""
        if detail := _fault_of(content_type, part, types):
            raise InvalidInput([{"pointer": "/file", "detail": detail}])
        yield Upload(
            name=clean_name(part.filename or "", content_type),
            content_type=content_type,
            size_bytes=part.size or 0,
            sha256=digest,
            file=part.file,
        )
    finally:
        await part.close()


async def _read_part(request: Request) -> UploadFile:
    """The parser keeps 1 MB of a file in memory, the rest of it on disk; what is no file it refuses."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise NotMultipart("Send multipart/form-data with one part, `file`.")

    async def whole() -> AsyncGenerator[bytes]:
        async for chunk in request.stream():
            yield chunk
        if not parser.items:  # raised in here it has the parser close what it has opened
            raise MultiPartException(_ONE_PART)

    parser = MultiPartParser(request.headers, whole(), max_files=1, max_fields=0)
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError):  # the latter from a name in a charset of the caller's choice
        raise InvalidInput([{"pointer": "", "detail": _ONE_PART}]) from None
    part = form.get("file")
    if not isinstance(part, UploadFile):
        await form.close()
        raise InvalidInput([{"pointer": "", "detail": _ONE_PART}])
    return part


def _look_at(file: BinaryIO) -> tuple[bytes, bytes]:
    """How it begins, and its digest."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return head, digest.digest()


def _fault_of(content_type: str, part: UploadFile, types: Collection[str]) -> str | None:
    """What is wrong with it, in words, never with what the caller called it."""
    if content_type not in types:
        return f"must be an image of one of these types: {', '.join(sorted(types))}"
    if _type_of(part.content_type or "") not in {content_type, *_SAYS_NOTHING}:
        return f"is {content_type}, but its Content-Type says otherwise"
    named = _KNOWN.guess_type(f"x{_ending(part.filename or '')}", strict=False)[0] or ""
    if _type_of(named) not in {content_type, *_SAYS_NOTHING}:
        return f"is {content_type}, but its name says otherwise"
    return None


def _type_of(text: str) -> str:
    kind = text.partition(";")[0].strip().lower()
    return _SAME.get(kind, kind)


def _ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f".{ending}" if stem and dot else ""


def clean_name(given: str, content_type: str) -> str:
    """A file's name as fal is told it: its last segment, in few ASCII characters, ending as its type does."""
    segment = re.split(r"[/\\]", given)[-1]
    plain = unicodedata.normalize("NFKD", segment[: -len(_ending(segment)) or None]).encode("ascii", "ignore").decode()
    stem = _ODD.sub("-", plain).strip(".-_")[:_LONGEST_NAME]
    return (stem or "image") + (_KNOWN.guess_extension(content_type) or "")
