"""What one caller can cost: heads, bodies, time and open streams are bounded, and the refusal is a clear one."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.ledger import usage
from app.main import create_app
from app.settings import Settings
from app.web import bodies, connection, edge
from app.web.edge import Edge
from tests.gateway import Gateway, Person
from tests.jobs.hand import until

from .wire import Answer, head, send
from .world import IMAGE, PNG, count_rows, nothing_written, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def wired(gateway: Gateway) -> AsyncIterator[Wire]:
    parsed = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parsed.hostname, parsed.port)
    try:
        yield reader, writer
    finally:
        writer.close()


def problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    assert answer.status == status, answer.raw[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    body: dict[str, Any] = json.loads(answer.body)
    assert (body["code"], body["status"]) == (code, status)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert re.fullmatch(rf"http://(gateway|127\.0\.0\.1:\d+)/problems/{code}", body["type"])
    return body


def edge_of(gateway: Gateway) -> Edge:
    found = gateway.app.middleware_stack
    while not isinstance(found, Edge):
        found = found.app  # type: ignore[union-attr]
    return found


async def test_a_head_too_large_is_refused_whether_it_ends_or_not(gateway: Gateway) -> None:
    many = [f"X-{n}: x" for n in range(connection.MOST_HEADERS)]
    for parts in (
        (head("GET", "/health/live", "X-Much: " + "x" * 70_000),),
        (head("GET", "/health/live", *(f"X-{n}: {'x' * 5_000}" for n in range(20))),),
        (head("GET", "/health/live", *many),),
        (head("GET", "/" + "x" * 70_000),),
        (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Much: ", *[b"x" * 10_000] * 20),
        (b"GET /", *[b"x" * 10_000] * 20),
    ):
        refused = problem(await send(gateway, *parts), 431, "head-too-large")
        assert (refused["limit_bytes"], refused["limit_headers"]) == (65_536, 100)
    fits = head("GET", "/health/live", "X-Much: " + "x" * 60_000, *many[:90])
    assert (await send(gateway, fits)).status == 200


async def test_a_large_body_does_not_count_as_a_head(gateway: Gateway, ann: Person) -> None:
    body = json.dumps({"prompt": "x", "image_url": PNG + "A" * 300_000}).encode()
    lines = [f"Authorization: Bearer {ann.secret}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = head("POST", IMAGE, *lines) + body
    async with wired(gateway) as (reader, writer):
        for _ in range(3):  # the next head comes in one piece with the end of a body
            writer.write(request * 2)
            for _ in range(2):
                first = await reader.readuntil(b"\r\n\r\n")
                assert b" 431 " not in first
                length = int(first.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                await reader.readexactly(length)


async def test_what_is_no_http_is_told_so_in_our_own_shape(gateway: Gateway) -> None:
    for nonsense in (
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n x\r\n\r\n",
    ):
        problem(await send(gateway, nonsense), 400, "not-http")


async def test_what_follows_a_body_is_bounded_and_no_header(gateway: Gateway, ann: Person) -> None:
    body = b"c\r\n" + json.dumps({"prompt": "x"}).encode().ljust(12)[:12] + b"\r\n0\r\n"
    begun = head("POST", "/v1/text-to-video", "Content-Type: application/json", "Transfer-Encoding: chunked") + body
    trailed = begun + f"Authorization: Bearer {ann.secret}\r\n\r\n".encode()
    async with nothing_written(gateway):
        problem(await send(gateway, trailed), 401, "key-unknown")
    known = head("POST", "/v1/teams", "Content-Type: application/json", "Transfer-Encoding: chunked")
    for parts in ([b"X-%d: %s\r\n" % (n, b"x" * 9_000) for n in range(99)], [b"X: ", *[b"x" * 10_000] * 99]):
        problem(await send(gateway, known, b"0\r\n", *parts), 431, "head-too-large")
    problem(await send(gateway, known, b"5;", *[b"x" * 10_000] * 99), 431, "head-too-large")


async def test_a_body_beside_an_upgrade_is_never_read_as_the_next_request(gateway: Gateway) -> None:
    inner = head("GET", "/health/live")
    upgrade = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "Content-Type: application/json"]
    for length in (f"Content-Length: {len(inner)}", "Transfer-Encoding: chunked"):
        answer = await send(gateway, head("POST", "/v1/text-to-video", *upgrade, length), inner)
        assert "Upgrade" in problem(answer, 400, "not-http")["detail"]
        assert b"live" not in answer.body
    assert (await send(gateway, head("GET", "/health/live", *upgrade))).status == 200


async def test_whole_requests_keep_their_answers_whatever_comes_after_them(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    submits, goes_on = gateway.app.state.rooms.submits, asyncio.Event()
    submit = submits.submit

    async def waits(submission: Any) -> Any:
        await goes_on.wait()
        return await submit(submission)

    monkeypatch.setattr(submits, "submit", waits)
    body = json.dumps({"prompt": "x"}).encode()
    lines = [f"Authorization: Bearer {ann.secret}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    request = head("POST", "/v1/text-to-video", *lines) + body
    for parts in (
        [request, b"nonsense\r\n\r\n"],
        [request * 2 + b"nonsense\r\n\r\n"],
        [request, head("GET", "/", "X: " + "x" * 70_000)],
    ):
        goes_on.clear()
        async with wired(gateway) as (reader, writer):
            for part in parts:
                writer.write(part)
                await asyncio.sleep(0.05)
            goes_on.set()
            answered = await asyncio.wait_for(reader.read(), 10)
        assert answered.count(b"HTTP/1.1 202") == answered.count(b"HTTP/1.1 ") == parts[0].count(b"POST")


@pytest.mark.parametrize("begun", [b"", b"GET /health/live HTTP/1.1\r\nHost: x\r\n"])
async def test_a_head_that_does_not_end_is_waited_for_only_so_long(
    begun: bytes, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    whole = head("GET", "/health/live")
    for before in (b"", whole):
        async with wired(gateway) as (reader, writer):
            if before:
                writer.write(before)
                await reader.readuntil(b"}")
                if not begun:  # idle, and as kept alive as any other
                    continue
            writer.write(begun)
            async with dripping(writer) if begun else nullcontext():
                assert await asyncio.wait_for(reader.read(), 10) == b""


@asynccontextmanager
async def dripping(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    async def drip() -> None:
        for n in range(10_000):
            await asyncio.sleep(0.005)
            writer.write(f"X-{n}: x\r\n".encode())

    task = asyncio.create_task(drip())
    try:
        yield
    finally:
        task.cancel()


async def test_whoever_waits_for_us_is_not_cut_off_for_a_stray_line(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    job_id = (await gateway.submit(ann)).json()["id"]
    asking = head("GET", f"/v1/jobs/{job_id}", f"Authorization: Bearer {ann.secret}", "Prefer: wait=1")
    answer = await send(gateway, asking, b"\r\n")
    assert answer.status == 200


@pytest.mark.parametrize("path", [IMAGE, "/v1/teams"])
async def test_a_body_that_drips_is_waited_for_only_so_long(
    path: str, gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.3)
    lines = [f"Authorization: Bearer {ann.secret}", "Content-Type: application/json", "Content-Length: 200000"]
    async with nothing_written(gateway), wired(gateway) as (reader, writer):
        writer.write(head("POST", path, *lines) + b"{" * 100_000)
        async with dripping(writer):
            answer = Answer(await asyncio.wait_for(reader.read(), 10))
    assert problem(answer, 408, "body-too-slow")["within_seconds"] == 0.3
    assert not any(held.bytes_in_hand for held in edge_of(gateway).bodies)


async def test_a_body_that_nobody_wants_is_not_waited_for_without_end(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    lines = ["Content-Type: application/json", "Content-Length: 200000"]
    async with wired(gateway) as (reader, writer):
        writer.write(head("POST", IMAGE, *lines) + b"{")
        async with dripping(writer):
            assert b" 401 " in await asyncio.wait_for(reader.read(), 10)


async def test_beyond_so_many_bytes_of_bodies_in_hand_large_ones_wait_outside(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, _ = edge_of(gateway).bodies
    monkeypatch.setattr(held, "most_bytes", 500_000)
    body = json.dumps({"prompt": "x", "image_url": PNG + "A" * 400_000}).encode()
    lines = [f"Authorization: Bearer {ann.secret}", "Content-Type: application/json"]
    announced = head("POST", IMAGE, *lines, f"Content-Length: {len(body)}")
    async with wired(gateway) as (reader, writer):
        writer.write(announced + body[:300_000])
        await until(lambda: held.bytes_in_hand > 200_000)
        refused = await send(gateway, announced)  # before a byte of it is read
        problem(refused, 503, "too-busy")
        assert int(refused.headers["retry-after"]) >= 1
        chunked = head("POST", IMAGE, *lines, "Transfer-Encoding: chunked")
        chunk = b"10000\r\n" + b"[" * 0x10000 + b"\r\n"
        problem(await send(gateway, chunked, *[chunk] * 8), 503, "too-busy")
        assert (await gateway.submit(ann)).status_code == 202  # small ones pass
        writer.write(body[300_000:])
        assert b" 422 " in await reader.readuntil(b"\r\n\r\n")  # read to its end, and no image
    await until(lambda: held.bytes_in_hand == 0)


async def test_strangers_bodies_do_not_stand_in_the_way_of_images(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    for held in edge_of(gateway).bodies:
        monkeypatch.setattr(held, "most_bytes", 500_000)
    stranger = head("POST", "/v1/teams", "Content-Type: application/json", "Content-Length: 500000")
    image = json.dumps({"prompt": "x", "image_url": PNG + "A" * 400_000}).encode()
    lines = [f"Authorization: Bearer {ann.secret}", "Content-Type: application/json", f"Content-Length: {len(image)}"]
    async with wired(gateway) as (_, writer):
        writer.write(stranger + b"[" * 490_000)
        await until(lambda: sum(held.bytes_in_hand for held in edge_of(gateway).bodies) > 400_000)
        problem(await send(gateway, head("POST", IMAGE, *lines) + image), 422, "invalid-input")
    await until(lambda: not any(held.bytes_in_hand for held in edge_of(gateway).bodies))


async def test_a_request_that_does_not_end_is_answered_all_the_same(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "REQUEST_SECONDS", 0.2)

    async def sleeps(_: object) -> None:
        await asyncio.sleep(60)

    job_id = (await gateway.submit(ann)).json()["id"]
    events = gateway.client.stream("GET", f"/v1/jobs/{job_id}/events", headers=ann.headers)
    async with events as answer:
        lines = answer.aiter_lines()
        while not (await anext(lines)).startswith("data:"):
            pass
        waited = await gateway.client.get(f"/v1/jobs/{job_id}", headers=ann.headers | {"Prefer": "wait=1"})
        assert waited.status_code == 200
        await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
        rest = [line async for line in lines]  # it has outlived the bound
        assert any("canceled" in line for line in rest)
    monkeypatch.setattr(gateway.app.state.rooms.submits, "submit", sleeps)
    answer = await gateway.submit(ann)
    assert "may or may not" in refusal(answer, 503, "unavailable")["detail"]
    assert int(answer.headers["retry-after"]) >= 1


async def test_whoever_waits_for_a_job_or_a_count_has_the_time_for_it() -> None:
    ordinary = edge._seconds("/v1/me", {})
    assert ordinary == edge.REQUEST_SECONDS < 120
    assert edge._seconds("/v1/jobs/job_1", {b"prefer": b"wait=300"}) >= ordinary + 300
    assert edge._seconds("/v1/quotas", {}) >= usage._COUNTING_SECONDS


async def test_each_key_has_so_many_seats_and_gets_them_back(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    seats = gateway.app.state.rooms.seats
    monkeypatch.setattr(seats, "most", 3)
    bob = await gateway.make_person()
    job_id = (await gateway.submit(ann)).json()["id"]
    path = f"/v1/jobs/{job_id}"
    for _ in range(2):
        streams = [asyncio.create_task(_follow(gateway, ann, f"{path}/events")) for _ in range(2)]
        waiting = asyncio.create_task(gateway.client.get(path, headers=ann.headers | {"Prefer": "wait=60"}))
        await until(lambda: sum(seats._taken.values()) == 3)
        before = await count_rows(gateway)
        for answer in (
            await gateway.client.get(f"{path}/events", headers=ann.headers),
            await gateway.client.get(path, headers=ann.headers | {"Prefer": "wait=5"}),
            await gateway.submit(ann, headers={"Prefer": "wait=5"}),
        ):
            assert refusal(answer, 429, "too-many-streams")["limit"] == 3
            assert int(answer.headers["retry-after"]) >= 1
        assert await count_rows(gateway) == before
        assert (await gateway.client.get(path, headers=ann.headers)).status_code == 200
        assert (await gateway.submit(bob, headers={"Prefer": "wait=1"})).status_code == 202
        for task in (*streams, waiting):
            task.cancel()
        await asyncio.gather(*streams, waiting, return_exceptions=True)
        gateway.app.state.rooms.hub.wake_all()  # who waits without a stream is only found gone when it is answered
        await until(lambda: sum(seats._taken.values()) <= 1)  # the streams' are free at once
        await gateway.client.post(f"{path}/cancel", headers=ann.headers)
        await until(lambda: not seats._taken)
        job_id = (await gateway.submit(ann)).json()["id"]
        path = f"/v1/jobs/{job_id}"


async def _follow(gateway: Gateway, person: Person, path: str) -> None:
    async with gateway.client.stream("GET", path, headers=person.headers) as answer:
        async for _ in answer.aiter_lines():
            pass


async def test_a_served_gateway_has_these_connections(settings: Settings) -> None:
    from app.cli.server import uvicorn_config  # noqa: PLC0415  what `falgate serve` does is looked at

    config = uvicorn_config(create_app(settings), settings)
    config.load()
    assert config.http_protocol_class is connection.Connection
