"""POST /v1/files, and fal's upload initiation: an image on its way into fal's storage, and all that stops it."""

import asyncio
import json
import logging
import re
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.accounts.key_secrets import hash_of
from app.catalogue.registry import Catalogue
from app.embedded import EmbeddedPostgres
from app.files import stored as files
from app.files.uploads import FRAMING_BYTES, clean_name
from app.tokens import Grant, Tokens
from tests.conftest import FAL_KEY
from tests.gateway import ADMIN, Gateway, Person, run_gateway
from tests.sandbox.running import Sandbox

from .conftest import fresh_database, working_settings
from .wire import head, send
from .world import IMAGE, IMAGE_ENDPOINT, faults, find_in_rows, nothing_written, refusal, schema_of

pytestmark = pytest.mark.asyncio(loop_scope="package")

FILES = "/v1/files"
INITIATE = "/fal/storage/upload/initiate?storage_type=fal-cdn-v3"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\x90\0\0\0\xc8\x08\x02\0\0\0" + b"\0" * 300
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0" + b"\0" * 300
LIMIT = 10_000_000


@pytest_asyncio.fixture(loop_scope="package")
async def eva(working: Gateway) -> Person:
    """A member of a team of her own."""
    return await working.make_person()


@pytest.fixture(autouse=True)
def _sweep(fal: Sandbox) -> Iterator[None]:
    fal.http.delete("/_sandbox/files")  # those of another file of tests
    yield
    fal.http.delete("/_sandbox/faults")
    fal.http.delete("/_sandbox/files")


async def upload(
    gateway: Gateway, person: Person, content: bytes = PNG, name: str = "cat.png", kind: str = "image/png"
) -> httpx.Response:
    return await gateway.client.post(FILES, files={"file": (name, content, kind)}, headers=person.headers)


async def initiate(gateway: Gateway, headers: dict[str, str], **body: Any) -> httpx.Response:
    return await gateway.client.post(INITIATE, json=body, headers=headers)


async def rows_of(gateway: Gateway, person: Person) -> list[dict[str, Any]]:
    async with gateway.wiring.db.plain() as plain:
        user_id = person.user_id.removeprefix("user_")
        return [dict(row) for row in await plain.fetch("SELECT * FROM files WHERE user_id = $1 ORDER BY id", user_id)]


def at_fal(fal: Sandbox) -> list[dict[str, Any]]:
    return list(fal.http.get("/_sandbox/files").json()["files"])


async def test_an_image_is_uploaded_and_becomes_a_video(working: Gateway, eva: Person, fal: Sandbox) -> None:
    answer = await upload(working, eva, name="../My Cät (1).PNG")
    assert answer.status_code == 201, answer.text
    file = answer.json()
    assert not list((await schema_of(working, "File")).iter_errors(file))
    assert file["id"].startswith("file_")
    told = {name: file[name] for name in ("content_type", "size_bytes", "sha256", "name")}
    digest = sha256(PNG).hexdigest()
    assert told == {"content_type": "image/png", "size_bytes": len(PNG), "sha256": digest, "name": "My-Cat-1.png"}
    assert (await working.client.get(file["url"])).content == PNG
    (kept,) = at_fal(fal)
    assert (kept["name"], kept["sha256"], kept["put_with_key"]) == ("My-Cat-1.png", digest, False)
    assert kept["key_fingerprint"] == sha256(FAL_KEY.encode()).hexdigest()[:12]
    (row,) = await rows_of(working, eva)
    owner = {f"{name}_id": f"{name}_{row[f'{name}_id'].hex}" for name in ("user", "team", "key")}
    assert owner == {"user_id": eva.user_id, "team_id": eva.team_id, "key_id": eva.key_id}
    assert (row["url"], row["size_bytes"], row["sha256"].hex(), row["end_user"]) == (
        file["url"],
        len(PNG),
        digest,
        None,
    )
    body = {"prompt": "the cat yawns", "image_url": file["url"]}
    submitted = await working.client.post(IMAGE, json=body, headers=eva.headers | {"Prefer": "wait=20"})
    job = submitted.json()
    assert job["status"] == "succeeded", job
    assert job["input"]["image_url"] == file["url"]
    assert "16x9" in job["output"]["video"]["url"]
    counted = (await working.client.get("/metrics")).text
    for call, outcome in (("initiate", "Initiated"), ("put", "Stored")):
        assert f'falgate_fal_requests_total{{call="{call}",outcome="{outcome}"}}' in counted


async def test_a_jpeg_is_one_whatever_it_is_called_as_long_as_nothing_says_otherwise(
    working: Gateway, eva: Person
) -> None:
    for name, kind in (
        ("cat.jpg", "image/jpeg"), ("cat.JPEG", "image/jpg"), ("cat", ""), ("", "image/jpeg; charset=utf-8"),
        ("cat.of.unknownness", "application/octet-stream"), ("..", "IMAGE/JPEG"), ("cat.jpe", "image/pjpeg"),
    ):  # fmt: skip
        part = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        part += f"Content-Type: {kind}\r\n" if kind else ""
        body = part.encode() + b"\r\n" + JPEG + b"\r\n--x--\r\n"
        headers = eva.headers | {"Content-Type": "multipart/form-data; boundary=x"}
        answer = await working.client.post(FILES, content=body, headers=headers)
        assert answer.status_code == 201, (name, kind, answer.text)
        assert answer.json()["content_type"] == "image/jpeg"
        assert re.fullmatch(r"(cat|cat\.of|image)\.jpg", answer.json()["name"])


@pytest.mark.parametrize(
    ("content", "name", "kind", "says"),
    [
        (JPEG, "cat.png", "image/jpeg", "its name says otherwise"),
        (PNG, "cat.png", "image/jpeg", "its Content-Type says otherwise"),
        (PNG, "cat.jpg", "image/png", "its name says otherwise"),
        (PNG, "cat.txt", "application/octet-stream", "its name says otherwise"),
        (PNG, "cat.webp", "image/png", "its name says otherwise"),
        (PNG, "cat", "text/html", "its Content-Type says otherwise"),
        (b"GIF89a" + b"\0" * 300, "cat.gif", "image/gif", "image/jpeg, image/png"),
        (b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 300, "cat.webp", "image/webp", "image/jpeg, image/png"),
        (b"<svg/>", "cat.svg", "image/svg+xml", "image/jpeg, image/png"),
        (b"\0" * 300, "cat.png", "image/png", "image/jpeg, image/png"),
        (b"x" + PNG, "cat.png", "image/png", "image/jpeg, image/png"),
        (b"", "cat.png", "image/png", "image/jpeg, image/png"),
        (b"PK\x03\x04" + b"\0" * 300, "cat.png", "image/png", "image/jpeg, image/png"),
    ],
)
async def test_a_file_that_is_not_what_it_says_is_refused(
    content: bytes, name: str, kind: str, says: str, working: Gateway, eva: Person, fal: Sandbox
) -> None:
    async with nothing_written(working):
        assert says in faults(await upload(working, eva, content, name, kind))["/file"]
    assert at_fal(fal) == []


def part(disposition: str, content: bytes = PNG) -> bytes:
    return f"--x\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n"


FILE = 'form-data; name="file"; filename="cat.png"'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x--\r\n",
        b"nonsense",
        part(FILE) + part(FILE) + b"--x--\r\n",
        part(FILE) + part('form-data; name="more"', b"x") + b"--x--\r\n",
        part('form-data; name="file"') + b"--x--\r\n",
        part('form-data; name="image"; filename="cat.png"') + b"--x--\r\n",
        part('form-data; filename="cat.png"') + b"--x--\r\n",
        b"--x\r\n\r\n" + PNG + b"\r\n--x--\r\n",
        part(FILE),
        part(FILE)[:-100],
        b"--x\r\nX: " + b"y" * 100_000,
        b"--x\r\n" + b"X: y\r\n" * 10_000,
        part('form-data; name="file"', b"y" * 2_000_000) + b"--x--\r\n",
    ],
)
async def test_a_form_that_is_not_one_file_is_refused(body: bytes, working: Gateway, eva: Person, fal: Sandbox) -> None:
    headers = eva.headers | {"Content-Type": "multipart/form-data; boundary=x"}
    async with nothing_written(working):
        answer = await working.client.post(FILES, content=body, headers=headers)
        assert "curl -F file=@cat.png" in faults(answer)[""]
    assert at_fal(fal) == []


@pytest.mark.parametrize("charset", ["idna", "punycode", "utf-16", "utf-7", "zip", "unicode_escape", "nonsense"])
async def test_no_charset_of_a_form_is_a_fault_of_ours(charset: str, working: Gateway, eva: Person) -> None:
    for name in (b"\xff\xfe\\u", b"xn--\xff.png", b"cat.png", b"x" * 2000):
        body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n' + PNG
        headers = eva.headers | {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
        answer = await working.client.post(FILES, content=body + b"\r\n--x--\r\n", headers=headers)
        assert answer.status_code in {201, 422}, answer.text


@pytest.mark.parametrize(
    "kind",
    ["image/png", "application/json", "", "multipart/form-data", "multipart/mixed; boundary=x", "x" * 500],
)
async def test_a_body_that_is_not_multipart_is_told_so(kind: str, working: Gateway, eva: Person) -> None:
    headers = eva.headers | {"Content-Type": kind}
    async with nothing_written(working):
        refusal(await working.client.post(FILES, content=PNG, headers=headers), 415, "not-multipart")


async def test_a_file_over_the_limit_is_refused_in_words(working: Gateway, eva: Person, fal: Sandbox) -> None:
    async with nothing_written(working):
        problem = refusal(await upload(working, eva, PNG + b"\0" * (LIMIT + 1 - len(PNG))), 413, "body-too-large")
        assert problem["limit_bytes"] == LIMIT
        assert str(LIMIT) in problem["detail"]
    assert at_fal(fal) == []
    assert (await upload(working, eva, PNG + b"\0" * (LIMIT - len(PNG)))).status_code == 201


async def test_two_hundred_megabytes_are_refused_without_reading_them_all(working: Gateway, eva: Person) -> None:
    """Announced, to a client that waits to be told to go on; announced; and without a length."""
    lines = [f"Authorization: Bearer {eva.secret}", "Content-Type: multipart/form-data; boundary=x"]
    begun, megabyte = part(FILE, PNG)[:-2], b"\0" * 1_000_000
    announced, chunked = "Content-Length: 200000000", "Transfer-Encoding: chunked"
    chunk = b"f4240\r\n" + megabyte + b"\r\n"
    for parts in (
        [head("POST", FILES, *lines, announced, "Expect: 100-continue")],
        [head("POST", FILES, *lines, announced), begun, *[megabyte] * 65],
        [head("POST", FILES, *lines, chunked), b"%x\r\n" % len(begun) + begun + b"\r\n", *[chunk] * 65],
    ):
        answer = await send(working, *parts)
        problem = json.loads(answer.body)
        assert (answer.status, problem["code"]) == (413, "body-too-large")
        assert problem["limit_bytes"] == LIMIT + FRAMING_BYTES
    assert await rows_of(working, eva) == []


async def test_whoever_may_not_upload_hears_that_before_the_body_is_read(working: Gateway, eva: Person) -> None:
    lines = ["Content-Type: multipart/form-data; boundary=x", "Content-Length: 200000000"]
    assert (await send(working, head("POST", FILES, *lines))).status == 401
    assert (await send(working, head("POST", FILES, f"Authorization: {ADMIN['Authorization']}", *lines))).status == 403
    headers = {"Authorization": f"Bearer {eva.secret[:-1]}x"}
    refusal(await working.client.post(FILES, files={"file": PNG}, headers=headers), 401, "key-unknown")
    assert (await initiate(working, headers, content_type="image/png")).status_code == 401


async def test_a_token_that_may_submit_may_upload_for_its_end_user(working: Gateway, eva: Person) -> None:
    tokens, now = working.wiring.tokens, working.wiring.clock()
    assert isinstance(tokens, Tokens)
    secret_hash = hash_of(eva.secret.encode())
    assert secret_hash is not None

    def bearer(**grant: Any) -> dict[str, str]:
        minted = tokens.mint(secret_hash, Grant(expires_at=now + timedelta(minutes=5), **grant))
        return {"Authorization": f"Bearer {minted}"}

    submits = bearer(scope="submit", end_user="visitor 7")
    for answer in (
        await working.client.post(FILES, files={"file": ("a.png", PNG)}, headers=submits),
        await initiate(working, submits, content_type="image/png", file_name="a.png"),
    ):
        assert answer.is_success, answer.text
    assert [row["end_user"] for row in await rows_of(working, eva)] == ["visitor 7"] * 2
    changed = {"Authorization": submits["Authorization"][:-1] + "_"}
    of_a_job = bearer(scope="submit", job_id=(await rows_of(working, eva))[0]["id"])
    for headers, status, code in (
        (bearer(scope="read"), 403, "token-forbidden"), (of_a_job, 401, "token-unknown"),
        (changed, 401, "token-unknown"),
    ):  # fmt: skip
        async with nothing_written(working):
            answer = await working.client.post(FILES, files={"file": ("a.png", PNG)}, headers=headers)
            refusal(answer, status, code)
            assert (await initiate(working, headers, content_type="image/png")).status_code == status
    await working.admin("DELETE", f"/v1/keys/{eva.key_id}")
    answer = await working.client.post(FILES, files={"file": ("a.png", PNG)}, headers=submits)
    refusal(answer, 401, "key-unknown")


@pytest.mark.parametrize("step", ["initiate", "put"])
@pytest.mark.parametrize("fault", ["401", "403-locked", "429", "500", "502-html", "close", "cut", "307", "empty"])
async def test_trouble_with_fals_storage_is_nothing_of_the_callers(
    step: str, fault: str, working: Gateway, eva: Person, fal: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    fal.set_fault(call=step, fault=fault, times=1)
    with caplog.at_level(logging.WARNING, logger="falgate.files"):
        answer = await upload(working, eva)
    if (step, fault) == ("put", "empty"):  # what is said of a PUT that went well is not looked at
        assert answer.status_code == 201
        return
    problem = refusal(answer, 503, "storage-away")
    assert int(answer.headers["retry-after"]) >= 1
    assert not re.search("locked|balance|401|403|key", problem["detail"], re.IGNORECASE)
    (line,) = caplog.records
    is_ours = step == "initiate" and fault in {"401", "403-locked", "429"}
    assert line.levelno == (logging.ERROR if is_ours else logging.WARNING)
    assert FAL_KEY.partition(":")[2] not in caplog.text
    assert [row["url"] for row in await rows_of(working, eva)] == [""], "what was asked of fal is counted"
    assert (await upload(working, eva)).status_code == 201


async def test_a_file_whose_row_cannot_say_where_it_is_is_told_to_the_operator(
    working: Gateway, eva: Person, fal: Sandbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    db = working.wiring.db

    async def put(*given: Any, **named: Any) -> Any:
        stored = await type(working.wiring.storage).put(working.wiring.storage, *given, **named)
        monkeypatch.setattr(db, "begin", is_away)
        return stored

    def is_away() -> Any:
        raise ConnectionRefusedError

    monkeypatch.setattr(working.wiring.storage, "put", put)
    refusal(await upload(working, eva), 503, "unavailable")
    assert "could not say where" in caplog.text
    monkeypatch.undo()
    (row,) = await rows_of(working, eva)
    assert row["url"] == ""
    assert at_fal(fal)[-1]["size_bytes"] == len(PNG)


async def test_each_user_adds_only_so_many_an_hour_even_at_once(
    working: Gateway, eva: Person, fal: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_AN_HOUR", 5)
    body = {"content_type": "image/png", "file_name": "cat.png"}
    before = fal.http.get("/_sandbox/state").json()["calls"].get("initiate", 0)
    answers = await asyncio.gather(
        *(upload(working, eva) for _ in range(5)), *(initiate(working, eva.headers, **body) for _ in range(5))
    )
    assert sorted(answer.is_success for answer in answers) == [False] * 5 + [True] * 5
    assert fal.http.get("/_sandbox/state").json()["calls"]["initiate"] == before + 5, "the others never reached fal"
    refused = await upload(working, eva)
    assert refusal(refused, 429, "too-many-files")["limit"] == 5
    assert 3500 < int(refused.headers["retry-after"]) <= 3600
    assert (await upload(working, await working.make_person())).status_code == 201
    async with working.wiring.db.plain() as plain:  # their ids say when they were made
        await plain.execute(
            "UPDATE files SET id = overlay(id::text placing '00000000' from 1 for 8)::uuid WHERE user_id = $1",
            eva.user_id.removeprefix("user_"),
        )
    assert (await upload(working, eva)).status_code == 201


async def test_memory_stays_the_same_however_large_the_file_is(
    postgres: EmbeddedPostgres, template: str, fal: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Catalogue, "image_bytes", 90_000_000)
    settings = working_settings(fresh_database(postgres, template), fal, MAX_BODY_BYTES="100000000")
    peaks = {}
    async with run_gateway(settings, work=False) as gateway:
        person = await gateway.make_person()
        for megabytes in (4, 60):
            tracemalloc.start()
            answer = await _stream(gateway, person, megabytes)
            peaks[megabytes] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert answer.status_code == 201, answer.text
            assert answer.json()["size_bytes"] == megabytes * 1_000_000
    assert peaks[60] < 12_000_000
    assert peaks[60] < peaks[4] + 4_000_000, peaks


async def _stream(gateway: Gateway, person: Person, megabytes: int) -> httpx.Response:
    block = b"\0" * 100_000

    async def body() -> AsyncIterator[bytes]:
        yield part(FILE, PNG)[:-2]
        for _ in range(megabytes * 10 - 1):
            yield block
        yield block[len(PNG) :] + b"\r\n--x--\r\n"

    headers = person.headers | {"Content-Type": "multipart/form-data; boundary=x"}
    return await gateway.client.post(FILES, content=body(), headers=headers)


async def test_the_client_of_javascript_is_told_where_to_put_its_image(
    working: Gateway, eva: Person, fal: Sandbox
) -> None:
    answer = await initiate(working, eva.headers, content_type="image/png", file_name="blob of mine.png")
    assert answer.status_code == 200, answer.text
    room = answer.json()
    assert room.keys() == {"upload_url", "file_url"}
    assert (await working.client.put(room["upload_url"], content=PNG)).status_code == 200
    assert (await working.client.get(room["file_url"])).content == PNG
    (row,) = await rows_of(working, eva)
    told = (row["url"], row["name"], row["content_type"], row["size_bytes"], row["sha256"])
    assert told == (room["file_url"], "blob-of-mine.png", "image/png", None, None)
    assert await find_in_rows(working, room["upload_url"]) == []
    (kept,) = at_fal(fal)
    assert kept["key_fingerprint"] == sha256(FAL_KEY.encode()).hexdigest()[:12]
    made = await working.client.post(
        f"/fal/{IMAGE_ENDPOINT}", json={"prompt": "x", "image_url": room["file_url"]}, headers=eva.headers
    )
    assert made.status_code == 200, made.text
    assert (await working.job(eva, made.json()["request_id"], wait=20))["status"] == "succeeded"
    fal.set_fault(call="initiate", fault="403-locked", times=1)
    away = await initiate(working, eva.headers, content_type="image/png", file_name="x")
    assert away.status_code == 503


async def test_it_is_told_the_same_through_the_proxy(working: Gateway, eva: Person) -> None:
    target = "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3"
    body = {"content_type": "image/jpeg", "file_name": "cat.jpg"}
    answer = await working.client.post("/fal/proxy", json=body, headers=eva.headers | {"x-fal-target-url": target})
    assert answer.json().keys() == {"upload_url", "file_url"}
    assert [row["url"] for row in await rows_of(working, eva)] == [answer.json()["file_url"]]


async def test_an_initiation_of_what_no_endpoint_takes_never_reaches_fal(
    working: Gateway, eva: Person, fal: Sandbox
) -> None:
    before = fal.http.get("/_sandbox/state").json()["calls"].get("initiate", 0)
    async with nothing_written(working):
        for body in (
            {"content_type": "video/mp4", "file_name": "x.mp4"}, {"content_type": "", "file_name": "x"},
            {"content_type": "application/octet-stream"}, {"file_name": "x"}, {"content_type": 5}, {},
            {"content_type": "image/png", "file_name": ["x"]}, {"content_type": "image/png", "file_name": "x" * 2000},
            {"content_type": "image/png", "more": 1},
        ):  # fmt: skip
            assert (await initiate(working, eva.headers, **body)).status_code == 422, body
        for text in (b"", b"{", b"[]", b"null"):
            answer = await working.client.post(INITIATE, content=text, headers=eva.headers)
            assert answer.status_code in {415, 422}
    assert fal.http.get("/_sandbox/state").json()["calls"].get("initiate", 0) == before


async def test_the_rest_of_fals_storage_is_refused_with_a_sentence(working: Gateway, eva: Person) -> None:
    for path, status, says in (
        ("upload/initiate-multipart?storage_type=fal-cdn-v3", 413, str(LIMIT)),
        ("upload/complete-multipart", 413, str(LIMIT)), ("auth/token?storage_type=fal-cdn-v3", 404, "/v1/files"),
    ):  # fmt: skip
        answer = await working.client.post(f"/fal/storage/{path}", json={}, headers=eva.headers)
        assert answer.status_code == status
        assert says in answer.text
        assert (await working.client.post(f"/fal/storage/{path}", json={})).status_code == 401


@pytest.mark.parametrize(
    "odd",
    [
        "http://example.com/cat.png", "{fal}9/cat.png", "{fal}", "{fal}@evil.example/x", "{fal}.evil.example/x",
        "http://user:x@{host}/cat.png", "{fal}/a b", "{fal}/\u00e9", "ftp://{host}/x", "http://localhost/x",
    ],
)  # fmt: skip
async def test_an_image_without_tls_is_taken_below_fals_own_url_only(
    odd: str, working: Gateway, eva: Person, fal: Sandbox
) -> None:
    image_url = odd.format(fal=fal.url, host=fal.url.removeprefix("http://"))
    answer = await working.client.post(IMAGE, json={"prompt": "x", "image_url": image_url}, headers=eva.headers)
    assert "https" in faults(answer)["/image_url"]


async def test_names_are_cleaned() -> None:
    for given, clean in (
        ("cat.png", "cat.png"), ("../../etc/passwd", "passwd.png"), ("C:\\x\\my cat.PNG", "my-cat.png"),
        ("", "image.png"), (".png", "png.png"), ("...", "image.png"), ("a\0b\r\nc.png", "a-b-c.png"),
        ("\u732b.png", "image.png"),
        ("Cr\u00e8me br\u00fbl\u00e9e.jpeg", "Creme-brulee.png"), ("x" * 300 + ".png", "x" * 100 + ".png"),
        ("a.b.c.png", "a.b.c.png"), ('"><script>.png', "script.png"), ("%2e%2e%2f", "2e-2e-2f.png"),
    ):  # fmt: skip
        assert clean_name(given, "image/png") == clean
