"""fal's storage for what callers upload (FAL.md 5): JavaScript's two steps, and Python's.

POST /storage/upload/initiate   with a key → {upload_url, file_url}; then PUT upload_url, without one
POST /storage/auth/token        with a key → {token, token_type, base_url, expires_at}; then
POST /files/upload              with that token → {access_url}
GET  /storage/files/{id}/{name} anybody
"""

import time
from datetime import UTC, datetime
from urllib.parse import quote

from app.sandbox.answers import Answer, json_answer, platform_error
from app.sandbox.box import Box
from app.sandbox.calls import Call
from app.sandbox.faults import spoil, take_fault
from app.sandbox.submits import origin_of, read_json, refuse_key
from app.sandbox.uploads import MOST_BYTES, File

FOLDER = "storage/"
PYTHONS_UPLOAD = "files/upload"
PUT = f"{FOLDER}put/"
FILES = f"{FOLDER}files/"
TOKEN_SECONDS = 3600
PREFLIGHT_SECONDS = b"600"
SECRET_TYPE = "Bearer"  # noqa: S105 - the scheme, not a token
# Pages on any origin put and read files.
OPEN_TO_PAGES = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, OPTIONS"),
    (b"access-control-allow-headers", b"*, authorization"),
    (b"access-control-max-age", PREFLIGHT_SECONDS),
)


async def answer_storage(box: Box, call: Call) -> Answer:
    """Answer any call of `FOLDER`, and Python's upload."""
    answer = Answer(204, headers=()) if call.method == "OPTIONS" else await _answer(box, call)
    return Answer(answer.status, answer.body, (*answer.headers, *OPEN_TO_PAGES), answer.delivery)


async def _answer(box: Box, call: Call) -> Answer:
    path = call.path
    if call.method in ("GET", "HEAD") and path.startswith(FILES):
        return _tell_file(box, call)
    if (call.method, path) == ("POST", f"{FOLDER}upload/initiate"):
        return await _meet_fault(box, call, "initiate")
    if call.method == "PUT" and path.startswith(PUT):
        return await _meet_fault(box, call, "put")
    if (call.method, path) == ("POST", f"{FOLDER}auth/token"):
        return refuse_key(call) or _mint(box, call)
    if (call.method, path) == ("POST", PYTHONS_UPLOAD):
        return await _take_with_token(box, call)
    return platform_error(404, f"Path /{path} not found")


async def _meet_fault(box: Box, call: Call, name: str) -> Answer:
    box.calls[name] += 1
    body = await _read(call)
    act = _initiate if name == "initiate" else _fill

    async def do() -> Answer:
        return act(box, call, body) if body is not None else _refuse_large()

    fault = take_fault(box.faults, name, None)
    return await do() if fault is None else await spoil(fault, do)


async def _read(call: Call) -> bytes | None:
    """Return the whole body; None, with nothing kept, when it is larger than any file."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await call.receive()
        part = message.get("body", b"")
        size += len(part)
        if size <= MOST_BYTES:
            parts.append(part)
        else:
            parts.clear()
        if not message.get("more_body"):
            return b"".join(parts) if size <= MOST_BYTES else None


def _initiate(box: Box, call: Call, body: bytes) -> Answer:
    given = read_json(body)
    refusal = refuse_key(call)
    if refusal or isinstance(given, Answer):
        return refusal or given
    name, content_type = (given.get("file_name"), given.get("content_type")) if isinstance(given, dict) else ("", "")
    if not (isinstance(name, str) and name and isinstance(content_type, str) and content_type):
        return platform_error(422, "file_name and content_type are required")
    file = box.uploads.make_room(name=name, content_type=content_type, key_fingerprint=call.key_fingerprint())
    upload_url = f"{origin_of(box, call)}/{PUT}{file.ticket}/{quote(name, safe='')}"
    return json_answer(200, {"upload_url": upload_url, "file_url": _url_of(box, call, file)})


def _fill(box: Box, call: Call, body: bytes) -> Answer:
    file = box.uploads.find_room(call.path.removeprefix(PUT).partition("/")[0])
    if file is None or file.content is not None:
        return platform_error(403, "Invalid upload URL")
    file.put_with_key = bool(call.header(b"authorization"))
    file.content_type = call.header(b"content-type") or file.content_type
    box.uploads.fill(file, body)
    return Answer(200, headers=())  # JSON without a text would be none to JavaScript's client


def _tell_file(box: Box, call: Call) -> Answer:
    file = box.uploads.find(call.path.removeprefix(FILES).partition("/")[0])
    if file is None or file.content is None:
        return platform_error(404, "File not found")
    return Answer(200, file.content, ((b"content-type", file.content_type.encode("latin-1", "replace")),))


def _mint(box: Box, call: Call) -> Answer:
    expires_at = datetime.fromtimestamp(time.time() + TOKEN_SECONDS, UTC).isoformat(timespec="seconds")
    token = box.uploads.mint(call.key_fingerprint())
    origin = origin_of(box, call)
    return json_answer(200, {"token": token, "token_type": SECRET_TYPE, "base_url": origin, "expires_at": expires_at})


async def _take_with_token(box: Box, call: Call) -> Answer:
    scheme, _, token = call.header(b"authorization").partition(" ")
    fingerprint = box.uploads.key_of(token) if scheme == SECRET_TYPE else None
    body = await _read(call)
    if fingerprint is None:
        return platform_error(401, "Invalid token")
    if body is None:
        return _refuse_large()
    name = call.header(b"x-fal-file-name") or "file"
    content_type = call.header(b"content-type") or "application/octet-stream"
    file = box.uploads.make_room(name=name, content_type=content_type, key_fingerprint=fingerprint)
    box.uploads.fill(file, body)
    return json_answer(200, {"access_url": _url_of(box, call, file)})


def _url_of(box: Box, call: Call, file: File) -> str:
    return f"{origin_of(box, call)}/{FILES}{file.file_id}/{quote(file.name, safe='')}"


def _refuse_large() -> Answer:
    return platform_error(413, "Payload too large")
