"""fal's signature on webhooks: what is taken, what is not, and how often its keys are asked for."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from app.fal import Forged, Genuine, KeysAway, KeySet
from app.fal.messages import Reply
from app.fal.signature import read_keys, verify
from tests.fal.forging import Sent, forgeries, moments_too_far
from tests.fal.signing import ACCOUNT, Pairs, Signer, jwks, publishing, told
from tests.fal.wire import REQUEST_ID, Server, answer, serving

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
FAL = Signer()
KEYS = (FAL.key.public_key(),)
BODY = told()
TRUE: Sent = (FAL.sign(BODY, at=NOW), BODY)

Open = Callable[[str], KeySet]


class Ticks:
    """A monotonic clock that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
async def open_set(ticks: Ticks) -> AsyncIterator[Open]:
    async with AsyncExitStack() as closing:

        def open_one(url: str) -> KeySet:
            made = KeySet(rest_url=url, monotonic=ticks)
            closing.push_async_callback(made.aclose)
            return made

        yield open_one


def _accepts(sent: Sent, now: datetime = NOW) -> bool:
    return isinstance(verify(*sent, keys=KEYS, now=now), Genuine)


def test_a_true_one_is_taken_whatever_else_comes_with_it_and_in_whatever_order() -> None:
    headers: Pairs = [(b"host", b"x"), *reversed(TRUE[0]), (b"content-type", b"application/json")]
    assert verify(headers, BODY, keys=KEYS, now=NOW) == Genuine(REQUEST_ID, ACCOUNT)
    assert _accepts((FAL.sign(b"", at=NOW), b""))
    assert isinstance(verify(*TRUE, keys=(Signer().key.public_key(), *KEYS), now=NOW), Genuine)


@pytest.mark.parametrize(("seconds", "taken"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_it_is_taken_within_five_minutes_of_its_timestamp(seconds: int, *, taken: bool) -> None:
    assert _accepts(TRUE, NOW + timedelta(seconds=seconds)) is taken


def _forge(draw: st.DataObject) -> None:
    sent = draw.draw(forgeries(TRUE))
    assume(sent != TRUE)
    assert not _accepts(sent)
    assert not _accepts(TRUE, draw.draw(moments_too_far(NOW)))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.data())
def test_nothing_that_is_done_to_a_true_one_is_taken(data: st.DataObject) -> None:
    _forge(data)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_nothing_that_is_done_to_a_true_one_is_taken_ten_thousand_times(data: st.DataObject) -> None:
    _forge(data)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([name for name, _ in TRUE[0]]), st.binary(max_size=200))), st.binary())
@example([(name, b"\xff" * 128) for name, _ in TRUE[0]], b"")
@example([(b"x-fal-webhook-timestamp", "٣".encode()), *TRUE[0][:2], TRUE[0][3]], BODY)
def test_any_bytes_at_all_are_judged_without_an_error(headers: Pairs, body: bytes) -> None:
    assert not _accepts((headers, body))


def test_of_a_key_set_only_whole_ed25519_keys_are_taken() -> None:
    good = FAL.jwk
    padded = {**Signer().jwk, "use": "sig", "kid": "7"}
    padded["x"] += "="
    bad: list[object] = [
        {**good, "kty": "RSA"}, {**good, "crv": "X25519"}, {**good, "crv": None}, {"x": good["x"]}, {**good, "x": 5},
        {**good, "x": good["x"][:-1]}, {**good, "x": good["x"] + "AA"}, {**good, "x": "!" + good["x"][1:]}, [], None,
        {**good, "x": base64.b64encode(b"\xff" * 32).decode()}, "key", {},
    ]  # fmt: skip
    assert len(read_keys(Reply(200, {}, jwks(*bad, good, padded)))) == 2
    for code, body in [(200, jwks(*bad)), (200, b"[]"), (200, b'{"keys": {}}'), (200, b"<html>"), (404, jwks(good))]:
        assert read_keys(Reply(code, {}, body)) == ()


async def test_the_set_is_fetched_once_without_a_key_and_lives_a_day(open_set: Open, ticks: Ticks) -> None:
    async with publishing(FAL) as server:
        keys = open_set(server.url)
        for _ in range(5):
            assert await keys.judge(*TRUE, now=NOW) == Genuine(REQUEST_ID, ACCOUNT)
        assert [heard.line for heard in server.heard] == ["GET /.well-known/jwks.json HTTP/1.1"]
        assert "authorization" not in server.heard[0].headers
        ticks.now += 24 * 3600 + 1
        assert await keys.judge(*TRUE, now=NOW) == Genuine(REQUEST_ID, ACCOUNT)
        assert len(server.heard) == 2
        server.act = answer(500, b"")
        ticks.now += 24 * 3600 + 1
        assert isinstance(await keys.judge(*TRUE, now=NOW), KeysAway)


async def test_a_new_key_of_fals_is_found_within_a_minute(open_set: Open, ticks: Ticks) -> None:
    new = Signer()
    async with publishing(FAL) as server:
        keys = open_set(server.url)
        assert isinstance(await keys.judge(*TRUE, now=NOW), Genuine)
        server.act = answer(200, jwks(FAL, new))
        signed = new.sign(BODY, at=NOW)
        assert await keys.judge(signed, BODY, now=NOW) == Forged("signature")
        ticks.now += 61
        assert isinstance(await keys.judge(signed, BODY, now=NOW), Genuine)
        assert isinstance(await keys.judge(*TRUE, now=NOW), Genuine)
        assert len(server.heard) == 2


async def test_a_flood_of_forged_ones_is_one_fetch_a_minute(open_set: Open, ticks: Ticks) -> None:
    forged = Signer().sign(BODY, at=NOW), BODY
    async with publishing(FAL) as server:
        keys = open_set(server.url)
        for minute in range(1, 4):
            verdicts = await asyncio.gather(*(keys.judge(*forged, now=NOW) for _ in range(200)))
            assert set(verdicts) == {Forged("signature")}
            assert len(server.heard) == minute
            ticks.now += 61
        server.act = answer(500, b"")  # a set at hand goes on serving when there is no newer one
        await asyncio.gather(*(keys.judge(*forged, now=NOW) for _ in range(200)))
        assert isinstance(await keys.judge(*TRUE, now=NOW), Genuine)
        assert len(server.heard) == 4


async def test_what_is_malformed_or_old_fetches_nothing(open_set: Open) -> None:
    async with publishing(FAL) as server:
        keys = open_set(server.url)
        assert await keys.judge([], BODY, now=NOW) == Forged("headers")
        assert await keys.judge(*TRUE, now=NOW + timedelta(hours=1)) == Forged("timestamp")
        assert server.heard == []


async def test_without_any_key_nothing_is_judged_and_fal_is_asked_ever_more_seldom(
    open_set: Open, ticks: Ticks
) -> None:
    async with serving(answer(503, b"away")) as server:
        keys = open_set(server.url)
        for _ in range(1200):  # twenty minutes, a second each
            verdicts = await asyncio.gather(*(keys.judge(*TRUE, now=NOW) for _ in range(3)))
            assert all(isinstance(verdict, KeysAway) for verdict in verdicts)
            ticks.now += 1
        assert 20 <= len(server.heard) <= 26
        server.act = answer(200, jwks(FAL))
        ticks.now += 61
        assert isinstance(await keys.judge(*TRUE, now=NOW), Genuine)


@pytest.mark.parametrize("body", [b'{"keys": []}', b"x" * 300_000, b"", b"\xff"], ids=["none", "long", "empty", "odd"])
async def test_a_set_that_cannot_be_used_is_none(open_set: Open, body: bytes) -> None:
    async with serving(answer(200, body)) as server:
        assert isinstance(await open_set(server.url).judge(*TRUE, now=NOW), KeysAway)


async def test_a_fetch_that_hangs_is_shared_and_waited_for_only_so_long(
    open_set: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.fal.signature._WAIT_SECONDS", 0.05)
    async with _slow(FAL) as (server, gate):
        keys = open_set(server.url)
        verdicts = await asyncio.gather(*(keys.judge(*TRUE, now=NOW) for _ in range(20)))
        assert all(isinstance(verdict, KeysAway) for verdict in verdicts)
        gate.set()
        monkeypatch.setattr("app.fal.signature._WAIT_SECONDS", 5)
        assert isinstance(await keys.judge(*TRUE, now=NOW), Genuine)
        assert server.connections == 1


@asynccontextmanager
async def _slow(signer: Signer) -> AsyncIterator[tuple[Server, asyncio.Event]]:
    """A server that answers with the key set once its gate is open."""
    server, gate = Server(answer(200)), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        await gate.wait()
        writer.write(answer(200, jwks(signer)).say)
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(talk, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server, gate
    finally:
        gate.set()
        listening.close()
