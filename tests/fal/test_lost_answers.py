"""Submit on a bad network: `NotSent` only while no byte of the request could have gone out."""

import asyncio
import gzip
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from pydantic import SecretStr

from app.fal import Accepted, NotSent, Queue, Queued, RequestRef, Trouble, Unknown, alias_ref, trust
from app.fal.wire import Sending

from .conftest import FAL_KEY, OpenQueue
from .wire import KLING, REQUEST_ID, Act, accepted, answer, serving

REF: RequestRef = alias_ref(KLING, REQUEST_ID)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = b'{"request_id":"%s"}' % REQUEST_ID.encode()

LOST = {
    "closes after reading": Act(),
    "resets after reading": Act(then="reset"),
    "resets unread": Act(read="nothing", then="reset"),
    "closes unread": Act(read="nothing", then="close"),
    "hangs": Act(then="hang"),
    "hangs unread": Act(read="nothing", then="hang"),
    "half a status line": Act(b"HTTP/1."),
    "half the headers": Act(HEAD),
    "half the headers, then silence": Act(HEAD, then="hang"),
    "half the body": Act(HEAD + b"Content-Length: 100\r\n\r\n" + BODY),
    "half the body, reset": Act(HEAD + b"Content-Length: 100\r\n\r\n" + BODY, then="reset"),
    "half the body, silence": Act(HEAD + b"Content-Length: 100\r\n\r\n" + BODY, then="hang"),
    "half a 4xx": Act(b'HTTP/1.1 422 No\r\nContent-Length: 100\r\n\r\n{"detail":"no"}'),
    "body until close, cut": Act(HEAD + b"\r\n" + BODY[:-3]),
    "chunked garbage": Act(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY),
    "chunks without end": Act(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(BODY), BODY)),
    "not http": Act(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "http/2 in the clear": Act(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"),
    "headers too long": Act(HEAD + b"X-Long: " + b"a" * 200_000 + b"\r\n\r\n" + BODY),
    "html": answer(200, b"<html>one moment</html>"),
    "empty": answer(200, b""),
    "a list": answer(200, [REQUEST_ID]),
    "a text": answer(200, REQUEST_ID),
    "deep": answer(200, b"[" * 100_000),
    "not utf-8": answer(200, b'{"request_id":"\xff"}'),
    "a number too long": answer(200, b'{"request_id":' + b"9" * 10_000 + b"}"),
    "NaN": answer(200, b'{"request_id":NaN}'),
    "too long": answer(200, b'{"request_id":"x","y":"' + b"y" * 20_000_000 + b'"}'),
    "gzip that is none": answer(200, BODY, headers={"Content-Encoding": "gzip"}),
    "an encoding not asked for": answer(200, BODY, headers={"Content-Encoding": "br"}),
    "gzip in gzip": answer(200, gzip.compress(gzip.compress(BODY)), headers={"Content-Encoding": "gzip, gzip"}),
}


@pytest.mark.parametrize("act", LOST.values(), ids=LOST.keys())
async def test_a_lost_answer_is_unknown(act: Act, open_queue: OpenQueue) -> None:
    async with serving(act) as server:
        outcome = await open_queue(server.url, read_seconds=0.2).submit(KLING, {"p": 1}, start_seconds=60)
    assert isinstance(outcome, Unknown)
    assert server.connections == 1


async def test_a_body_that_ends_with_the_connection_is_whole(open_queue: OpenQueue) -> None:
    async with serving(Act(HEAD + b"\r\n" + BODY)) as server:
        assert isinstance(await open_queue(server.url).submit(KLING, {}, start_seconds=60), Accepted)


async def test_gzip_is_understood_though_not_asked_for(open_queue: OpenQueue) -> None:
    async with serving(answer(200, gzip.compress(BODY), headers={"Content-Encoding": "gzip"})) as server:
        assert isinstance(await open_queue(server.url).submit(KLING, {}, start_seconds=60), Accepted)


@pytest.mark.parametrize("act", [Act(HEAD, read="nothing", then="hang"), Act(read="nothing", then="reset")])
async def test_a_body_that_was_not_all_taken_is_unknown(act: Act, open_queue: OpenQueue) -> None:
    async with serving(act) as server:
        queue = open_queue(server.url, read_seconds=0.2)
        outcome = await queue.submit(KLING, {"image_url": "A" * 15_000_000}, start_seconds=60)
    assert isinstance(outcome, Unknown)


async def test_a_closed_port_is_not_sent(open_queue: OpenQueue) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert isinstance(await open_queue(url).submit(KLING, {}, start_seconds=60), NotSent)


async def test_a_name_that_does_not_resolve_is_not_sent(open_queue: OpenQueue) -> None:
    outcome = await open_queue("http://falgate.invalid").submit(KLING, {}, start_seconds=60)
    assert isinstance(outcome, NotSent)


def test_a_connection_that_is_reset_before_it_is_used_is_not_sent(
    roots: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the loop that serves: there a socket that was reset is gone at once."""

    async def reset(_: Sending, event: str, info: Any) -> None:
        if event == "connection.connect_tcp.complete":
            info["return_value"]._stream._transport.abort()
            await asyncio.sleep(0)

    async def ask() -> object:
        async with serving(accepted()) as server:
            queue = Queue(fal_key=SecretStr(FAL_KEY), queue_url=server.url, tls=roots)
            outcome = await queue.submit(KLING, {}, start_seconds=60)
            await queue.aclose()
        return outcome

    monkeypatch.setattr(Sending, "__call__", reset)
    assert isinstance(uvloop.run(ask()), NotSent)


async def test_a_full_backlog_is_not_sent(open_queue: OpenQueue) -> None:
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in (first, second):
            filler.setblocking(False)  # noqa: FBT003
            filler.connect_ex(deaf.getsockname())
        queue = open_queue(f"http://127.0.0.1:{deaf.getsockname()[1]}", connect_seconds=0.3)
        assert isinstance(await queue.submit(KLING, {}, start_seconds=60), NotSent)


async def test_a_connection_nobody_accepts_has_taken_the_request(open_queue: OpenQueue) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(5)
        queue = open_queue(f"http://127.0.0.1:{deaf.getsockname()[1]}", read_seconds=0.2)
        assert isinstance(await queue.submit(KLING, {}, start_seconds=60), Unknown)


async def test_too_many_submits_at_once_are_not_sent(open_queue: OpenQueue) -> None:
    async with serving(Act(then="hang")) as server:
        queue = open_queue(server.url, read_seconds=1, max_concurrent=1)
        send_by = time.monotonic() + 0.3
        first = asyncio.create_task(queue.submit(KLING, {}, start_seconds=60))
        await asyncio.sleep(0)
        assert isinstance(await queue.submit(KLING, {}, start_seconds=60, send_by=send_by), NotSent)
        assert isinstance(await first, Unknown)
    assert len(server.heard) == 1


async def test_a_cancelled_submit_is_raised_and_gives_its_place_back(open_queue: OpenQueue) -> None:
    async with serving(Act(then="hang")) as server:
        queue = open_queue(server.url, max_concurrent=1)
        for _ in range(3):
            task = asyncio.create_task(queue.submit(KLING, {}, start_seconds=60))
            await server.hearing.wait()
            server.hearing.clear()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        server.act = accepted()
        assert isinstance(await queue.submit(KLING, {}, start_seconds=60), Accepted)


async def test_a_connection_that_stands_too_late_is_not_used(
    open_queue: OpenQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the name of httpx's event is the right one, and it comes before the first byte."""
    monkeypatch.setattr(Sending, "seconds_left", 5.0)
    async with serving(accepted()) as server:
        outcome = await open_queue(server.url).submit(KLING, {}, start_seconds=60, send_by=0)
    assert outcome == NotSent("ConnectTimeout: connected too late to be sent")
    assert (server.connections, server.heard) == (1, [])


async def test_no_call_lasts_longer_than_it_may(open_queue: OpenQueue) -> None:
    async with serving(Act(HEAD, then="hang")) as server:
        queue = open_queue(server.url, read_seconds=60)
        queue.longest_seconds = 0.2
        assert isinstance(await queue.submit(KLING, {}, start_seconds=60), Unknown)
        assert isinstance(await queue.status(REF), Trouble)


async def test_a_cancelled_read_is_raised(open_queue: OpenQueue) -> None:
    async with serving(Act(then="hang")) as server:
        task = asyncio.create_task(open_queue(server.url).status(REF))
        await server.hearing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_watch_never_calls_a_late_connect_error_not_sent(
    open_queue: OpenQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a release of httpx ever raise one after the first byte, the watch still knows better."""

    async def breaks(_: object, request: httpx.Request) -> httpx.Response:
        sending = request.extensions["trace"]
        assert isinstance(sending, Sending)
        await sending("http11.send_request_headers.started", {})
        raise httpx.ConnectError("late")

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", breaks)
    outcome = await open_queue("http://127.0.0.1:9").submit(KLING, {}, start_seconds=60)
    assert isinstance(outcome, Unknown)


OTHERS: list[type[httpx.TransportError]] = [
    httpx.ProxyError,
    httpx.WriteError,
    httpx.WriteTimeout,
    httpx.ReadError,
    httpx.ReadTimeout,
]
OTHERS += [httpx.RemoteProtocolError, httpx.LocalProtocolError, httpx.UnsupportedProtocol]


@pytest.mark.parametrize("error", [*OTHERS, OSError, ConnectionResetError, TimeoutError, ssl.SSLError])
async def test_no_other_exception_is_not_sent(
    error: type[Exception], open_queue: OpenQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: object) -> httpx.Response:
        raise error("broken")

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", breaks)
    outcome = await open_queue("http://127.0.0.1:9").submit(KLING, {}, start_seconds=60)
    assert isinstance(outcome, Unknown)


# TLS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    files = ["-keyout", f"{path}.key", "-out", f"{path}.crt"]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files],
        check=True,
        capture_output=True,
    )
    path.write_bytes(Path(f"{path}.key").read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusting(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    return trust()


async def test_a_certificate_of_ssl_cert_file_is_trusted(
    open_queue: OpenQueue, tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with serving(accepted(), context=tls) as server:
        queue = open_queue(server.url, tls=trusting)
        assert isinstance(await queue.submit(KLING, {}, start_seconds=60), Accepted)
        server.act = answer(202, {"status": "IN_QUEUE", "queue_position": 0})
        assert await queue.status(REF) == Queued(0)


async def test_a_stranger_with_another_certificate_gets_nothing(open_queue: OpenQueue, tls: ssl.SSLContext) -> None:
    async with serving(accepted(), context=tls) as server:
        outcome = await open_queue(server.url).submit(KLING, {}, start_seconds=60)
    assert isinstance(outcome, NotSent)
    assert server.heard == []


HANDSHAKES = {
    "speaks no tls": Act(b"HTTP/1.1 400 Bad Request\r\n\r\n", read="nothing"),
    "closes": Act(read="nothing"),
    "resets": Act(read="nothing", then="reset"),
    "hangs": Act(read="nothing", then="hang"),
    "sends an alert": Act(b"\x15\x03\x03\x00\x02\x02\x28", read="nothing"),
}


@pytest.mark.parametrize("act", HANDSHAKES.values(), ids=HANDSHAKES.keys())
async def test_a_failed_handshake_is_not_sent(act: Act, open_queue: OpenQueue) -> None:
    async with serving(act) as server:
        url = server.url.replace("http:", "https:")
        outcome = await open_queue(url, connect_seconds=0.3).submit(KLING, {}, start_seconds=60)
    assert isinstance(outcome, NotSent), outcome


LATE = [Act(), Act(then="reset"), Act(HEAD + b"Content-Length: 9\r\n\r\n{"), Act(then="hang")]


@pytest.mark.parametrize("act", LATE, ids=["closes", "resets", "half the body", "hangs"])
async def test_after_the_handshake_a_lost_answer_is_unknown(
    act: Act, open_queue: OpenQueue, tls: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    async with serving(act, context=tls) as server:
        queue = open_queue(server.url, read_seconds=0.2, tls=trusting)
        outcome = await queue.submit(KLING, {}, start_seconds=60)
    assert isinstance(outcome, Unknown)
    assert len(server.heard) == 1
