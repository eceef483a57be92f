"""fal's storage: our key goes to its initiation alone, the bytes to where fal says, and nothing is believed unseen."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from pydantic import SecretStr

from app.fal import Initiated, RefusedUs, Storage, Stored, Trouble

from .conftest import FAL_KEY
from .wire import Act, Heard, answer, serving

FILE_URL = "https://v3.fal.media/files/b/cat.png"
BYTES = b"\x89PNG\r\n\x1a\n" * 100_000
OpenStorage = Callable[..., Storage]


@pytest.fixture
async def open_storage(roots: ssl.SSLContext) -> AsyncIterator[OpenStorage]:
    async with AsyncExitStack() as closing:

        def open_one(url: str, seconds: float = 5, **more: object) -> Storage:
            storage = Storage(
                fal_key=SecretStr(FAL_KEY),
                rest_url=url,
                tls=roots,
                connect_seconds=seconds,
                initiate_seconds=seconds,
                put_seconds=seconds,
                **more,  # type: ignore[arg-type]
            )
            closing.push_async_callback(storage.aclose)
            return storage

        yield open_one


async def initiate(storage: Storage) -> Initiated | RefusedUs | Trouble:
    return await storage.initiate(content_type="image/png", name="cat.png")


async def chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 65_536):
        yield content[start : start + 65_536]


async def put(storage: Storage, url: str, content: bytes = BYTES, size_bytes: int | None = None) -> Stored | Trouble:
    size = len(content) if size_bytes is None else size_bytes
    return await storage.put(url, chunks(content), size_bytes=size, content_type="image/png")


def room(upload_url: object, file_url: object = FILE_URL) -> Act:
    return answer(200, {"upload_url": upload_url, "file_url": file_url})


async def test_an_image_goes_in_two_steps_and_only_the_first_shows_our_key(open_storage: OpenStorage) -> None:
    async with serving(answer(200, b"")) as store, serving(room("")) as rest:
        rest.act = room(f"{store.url}/put/x?signature=a%2Fb")
        storage = open_storage(rest.url, fal_urls=[store.url])
        initiated = await initiate(storage)
        assert isinstance(initiated, Initiated)
        assert initiated.file_url == FILE_URL
        assert "signature" not in repr(initiated), "whoever has it may fill it"
        assert await put(storage, initiated.upload_url) == Stored()
    (asked,), (filled,) = rest.heard, store.heard
    assert asked.line == "POST /storage/upload/initiate?storage_type=fal-cdn-v3 HTTP/1.1"
    assert asked.headers["authorization"] == f"Key {FAL_KEY}"
    assert asked.body == b'{"content_type": "image/png", "file_name": "cat.png"}'
    assert filled.line == "PUT /put/x?signature=a%2Fb HTTP/1.1"
    assert filled.body == BYTES
    assert filled.headers["content-type"] == "image/png"
    assert filled.headers["content-length"] == str(len(BYTES))
    assert "transfer-encoding" not in filled.headers
    assert FAL_KEY.encode() not in filled.head
    assert "authorization" not in filled.headers


@pytest.mark.parametrize(
    "odd",
    [
        "http://storage.example.com/put",
        "http://127.0.0.1:9/put",
        "https://user:password@storage.example.com/put",
        "https://storage.example.com\\@evil.example/put",
        "https://storage.example.com/put#here",
        "https://storage.example.com/a b",
        "https:///put",
        "https://ex_ample!/put",
        "ftp://storage.example.com/put",
        "//storage.example.com/put",
        "/put",
        "data:image/png;base64,AAAA",
        "",
        "https://storage.example.com/" + "x" * 8192,
        "https://storage.example.com/\u00e9",
        "https://storage.example.com:99999/put",
        "https://127.0.0.1/put",
        "https://2130706433/put",
        "https://[::1]/put",
        "https://[::ffff:169.254.169.254]/put",
        "https://10.0.0.7:8443/put",
        "https://localhost/put",
        None,
        5,
        ["https://storage.example.com/put"],
    ],
)
async def test_a_url_that_is_neither_https_nor_fals_own_is_not_believed(odd: object, open_storage: OpenStorage) -> None:
    async with serving(room(odd)) as rest:
        storage = open_storage(rest.url)
        assert isinstance(await initiate(storage), Trouble)
        rest.act = room("https://storage.example.com/put", odd)
        assert isinstance(await initiate(storage), Trouble)
        rest.act = room("https://storage.example.com/put?X-Signature=1", FILE_URL)
        assert isinstance(await initiate(storage), Initiated)


async def test_a_fal_of_ones_own_may_keep_files_without_tls(open_storage: OpenStorage) -> None:
    async with serving(room("")) as rest:
        rest.act = room(f"{rest.url}/put", f"{rest.url}/cat.png")
        assert isinstance(await initiate(open_storage(rest.url)), Initiated)
        rest.act = room(f"{rest.url}9/put", f"{rest.url}/cat.png")
        assert isinstance(await initiate(open_storage(rest.url)), Trouble)


@pytest.mark.parametrize("code", [400, 401, 402, 403, 404, 422, 429])
async def test_every_4xx_is_a_refusal_of_us(code: int, open_storage: OpenStorage) -> None:
    said = answer(code, {"detail": f"User is locked. {FAL_KEY}"}, headers={"Retry-After": "7"})
    async with serving(said) as rest:
        assert await initiate(open_storage(rest.url)) == RefusedUs(code, "User is locked. [FAL_KEY]", 7)


NO_ROOM = {
    "500": answer(500, {"detail": "x"}),
    "html": answer(200, b"<html>"),
    "empty": answer(200, b""),
    "a list": answer(200, []),
    "endless": Act(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 300_000),
    "elsewhere": answer(307, {"upload_url": "https://a.b/c", "file_url": FILE_URL}, headers={"Location": "/x"}),
    "cut": Act(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
    "closed": Act(b""),
    "reset": Act(b"", "reset"),
    "silent": Act(b"", "hang"),
    "nonsense": Act(b"nonsense\r\n\r\n"),
}


@pytest.mark.parametrize("name", NO_ROOM)
async def test_whatever_else_is_said_is_trouble_and_no_redirect_is_followed(
    name: str, open_storage: OpenStorage
) -> None:
    async with serving(NO_ROOM[name]) as rest:
        storage = open_storage(rest.url, seconds=0.3)
        assert isinstance(await initiate(storage), Trouble)
        assert isinstance(await put(storage, f"{rest.url}/put"), Trouble) or name in {"html", "empty", "a list"}
        assert {heard.line.split(" ")[1].partition("?")[0] for heard in rest.heard} == {
            "/storage/upload/initiate",
            "/put",
        }


async def test_nobody_there_is_trouble(open_storage: OpenStorage) -> None:
    storage = open_storage("http://127.0.0.1:9")
    assert isinstance(await initiate(storage), Trouble)
    assert isinstance(await put(storage, "http://127.0.0.1:9/put"), Trouble)
    assert isinstance(await put(storage, "nowhere"), Trouble)


async def test_a_store_that_refuses_before_the_end_is_trouble_with_its_code(open_storage: OpenStorage) -> None:
    refuses = Act(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "close", "nothing")
    async with serving(refuses) as store:
        said = await put(open_storage(store.url), f"{store.url}/put", BYTES * 20)
    assert isinstance(said, Trouble)


async def test_other_bytes_than_announced_are_never_a_file(open_storage: OpenStorage) -> None:
    async with serving(answer(200, b"")) as store:
        storage = open_storage(store.url, seconds=1)
        for size_bytes in (len(BYTES) - 1, len(BYTES) + 1):
            assert isinstance(await put(storage, f"{store.url}/put", size_bytes=size_bytes), Trouble)


async def test_only_so_many_are_under_way_at_once(open_storage: OpenStorage) -> None:
    def hears(_: Heard) -> Act:
        return Act(b"", "hang")

    async with serving(hears) as rest:
        storage = open_storage(rest.url, seconds=0.3, max_concurrent=1)
        async with storage._place():
            said = await initiate(storage)
        assert isinstance(said, Trouble)
        assert rest.connections == 0
        assert isinstance(await initiate(storage), Trouble)
        assert rest.connections == 1


def test_it_shows_no_key(roots: ssl.SSLContext) -> None:
    storage = Storage(fal_key=SecretStr(FAL_KEY), rest_url="https://rest.fal.ai", tls=roots)
    for thing in (storage, *vars(storage).values()):
        assert FAL_KEY.partition(":")[2] not in f"{thing!r}{thing}"
