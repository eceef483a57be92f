"""A delivery on its way: signed, retried under the same id, and what receivers can do to us."""

import asyncio
import gzip
import json
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import uvloop
from standardwebhooks import Webhook

from app.deliveries import claims, retries
from app.deliveries.claims import claim_due
from app.deliveries.post import Post, Sending, Tried
from app.deliveries.retries import delay_seconds, read_retry_after
from app.deliveries.sender import Sender
from app.fal import trust
from tests.deliveries.conftest import Office
from tests.deliveries.receiver import answer, hang, receiving
from tests.jobs.hand import rest, until


async def test_a_receiver_verifies_it_with_the_standard_package(office: Office) -> None:
    job_id = await office.end_job(tags={"film": "boat"})
    assert await office.turn() == 1
    (received,) = office.receiver.received
    told = Webhook(await office.secret()).verify(received.body, received.headers)
    assert told["type"] == "job.canceled"
    assert told["data"] == await office.hand.job(job_id)
    assert told["timestamp"] == told["data"]["finished_at"]
    assert received.path == "/hook?x=%2e"
    assert received.headers["host"] == f"127.0.0.1:{office.receiver.port}"
    assert received.headers["content-type"] == "application/json"
    assert not received.headers.keys() & {"authorization", "cookie", "x-request-id"}
    delivery = await office.delivery()
    assert delivery["id"] == received.headers["webhook-id"]
    assert delivery["job_id"] == job_id
    assert (delivery["status"], delivery["tries"], delivery["response_status"]) == ("delivered", 1, 200)
    assert (delivery["next_try_at"], delivery["error"]) == (None, None)
    assert delivery["tried_at"] == delivery["delivered_at"] is not None
    assert await office.turn_later() == 0


async def test_every_try_has_the_same_id_and_body_and_a_time_of_its_own(office: Office) -> None:
    office.receiver.then(answer(500), answer(404), answer(503))
    await office.end_job()
    await office.turn()
    first = await office.delivery()
    assert (first["status"], first["response_status"], first["error"]) == ("pending", 500, "answered 500")
    assert await office.turn() == 0, "it waits for its time"
    for _ in range(3):
        office.hand.clock.move(seconds=1)
        assert await office.turn_later() == 1
    received = office.receiver.received
    assert len(received) == 4
    assert len({one.headers["webhook-id"] for one in received}) == 1
    assert len({one.body for one in received}) == 1
    assert len({one.headers["webhook-timestamp"] for one in received}) == 4
    last = await office.delivery()
    assert (last["status"], last["tries"], last["error"]) == ("delivered", 4, None)


async def test_it_is_given_up_after_a_day_and_at_once_when_the_receiver_is_gone(office: Office) -> None:
    office.receiver.then(answer(500), answer(500), answer(500), answer(410))
    await office.end_job()
    await office.turn()
    await office.hand.sql(
        "UPDATE deliveries SET tries = 9, give_up_at = now() + interval '1 hour', next_try_at = now()"
        " WHERE status = 'pending'"
    )
    await office.turn()
    last = await office.delivery()
    (row,) = await office.hand.sql("SELECT give_up_at FROM deliveries WHERE status = 'pending'")
    assert datetime.fromisoformat(last["next_try_at"]) == row["give_up_at"], "one more, at the very end"
    await office.hand.sql("UPDATE deliveries SET give_up_at = now() WHERE status = 'pending'")
    await office.turn_later()
    await office.end_job()
    await office.turn()
    day, gone = await office.deliveries()
    assert (day["status"], day["tries"], day["response_status"], day["next_try_at"]) == ("failed", 11, 500, None)
    assert (gone["status"], gone["tries"], gone["response_status"]) == ("failed", 1, 410)
    assert await office.turn_later() == 0


def test_a_receiver_that_resets_connections_before_they_are_used_is_told_of_like_any_that_is_not_there(
    roots: ssl.SSLContext,
) -> None:
    """In the loop that serves: there a socket that was reset is gone at once."""

    class Reset(Sending):
        async def __call__(self, event: str, info: Any) -> None:
            if event == "connection.connect_tcp.complete":
                info["return_value"]._stream._transport.abort()
                await asyncio.sleep(0)

    async def send() -> Tried:
        async with receiving() as receiver:
            post = Post(allow_private=True, tls=roots)
            return await post.send(receiver.url, b"{}", {}, sending=Reset(), now=datetime.now(UTC))

    assert uvloop.run(send()) == Tried(outcome="unreachable", error="no connection")


def test_pauses_grow_over_a_day_and_a_receiver_may_ask_for_an_hour_at_most() -> None:
    pauses = [delay_seconds(tries, asked_seconds=None) for tries in range(1, 20)]
    steps = [5, 30, 120, 300, 900, 1800, 3600, 7200] + [14400] * 11
    assert all(0.8 * step <= pause <= 1.2 * step for pause, step in zip(pauses, steps, strict=True))
    assert sum(steps[:13]) < retries.DAY_SECONDS < sum(steps[:14])
    now = datetime(2026, 5, 3, 12, tzinfo=UTC)
    asked = {
        "120": 120.0,
        "9" * 50: 3600.0,
        format_datetime(now + timedelta(seconds=90), usegmt=True): 90.0,
        format_datetime(now - timedelta(days=1), usegmt=True): 0.0,
        "Wed, 21 Oct 2095 07:28:00 GMT": 3600.0,
        "-5": None, "soon": None, "": None, "1.5": None, "²": None,
    }  # fmt: skip
    assert {header: read_retry_after(header, now=now) for header in asked} == asked
    assert read_retry_after(None, now=now) is None
    assert delay_seconds(1, asked_seconds=600.0) == 600.0
    assert delay_seconds(9, asked_seconds=1.0) > 1000


async def test_a_receiver_that_asks_for_time_gets_it(office: Office) -> None:
    office.receiver.then(answer(429, "Retry-After: 1800"))
    await office.end_job()
    await office.turn()
    (row,) = await office.hand.sql("SELECT next_try_at - now() AS pause FROM deliveries WHERE status = 'pending'")
    assert timedelta(seconds=1700) < row["pause"] <= timedelta(seconds=1800)


async def test_no_redirect_is_followed_and_no_cookie_kept(office: Office) -> None:
    statuses = (301, 302, 303, 307, 308)
    async with receiving() as metadata:
        office.receiver.then(*(answer(one, f"Location: {metadata.url}", "Set-Cookie: a=b") for one in statuses))
        await office.end_job()
        for status in statuses:
            await office.turn_later()
            told = await office.delivery()
            assert (told["status"], told["response_status"]) == ("pending", status)
        await office.turn_later()
        assert metadata.connections == 0
    assert not [one for one in office.receiver.received if "cookie" in one.headers]
    assert (await office.delivery())["status"] == "delivered"


async def test_no_proxy_of_the_environment_is_used(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await office.end_job()
        await office.turn()
        assert proxy.connections == 0
    assert (await office.delivery())["status"] == "delivered"


async def test_an_endless_answer_is_left_after_a_few_kilobytes(office: Office) -> None:
    written = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing() and written < 500_000_000:
                writer.write(b"x" * 65_536)
                written += 65_536
                await writer.drain()

    office.receiver.then(endless)
    await office.end_job()
    await office.turn()
    delivery = await office.delivery()
    assert (delivery["status"], delivery["response_status"]) == ("delivered", 200)
    await until(lambda: office.receiver._open == 0)
    assert written < 50_000_000, "what the sockets' buffers took, and no more"


async def test_an_endless_row_of_answers_before_the_answer_is_left_too(office: Office) -> None:
    written = 0

    async def hints(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)
                written += 1000 * 28
                await writer.drain()

    office.receiver.then(hints)
    await office.end_job()
    await office.turn()
    delivery = await office.delivery()
    assert (delivery["status"], delivery["error"]) == ("pending", "the connection broke before an answer")
    await until(lambda: office.receiver._open == 0)
    assert written < 50_000_000, "what the sockets' buffers took, and no more"


async def test_a_compressed_answer_is_never_unpacked(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(b"x" * 10_000_000)

    def unpack(*_: object) -> None:
        raise AssertionError("it was unpacked")

    monkeypatch.setattr("httpx._decoders.GZipDecoder.decode", unpack)
    office.receiver.then(answer(500, "Content-Encoding: gzip", body=bomb))
    await office.end_job()
    await office.turn()
    assert office.receiver.received[0].headers["accept-encoding"] == "identity"
    assert (await office.delivery())["error"] == "answered 500"


async def test_a_broken_answer_is_a_failure_and_shows_none_of_it(office: Office) -> None:
    async def rubbish(writer: asyncio.StreamWriter) -> None:
        writer.write(b"my password is hunter2\r\n\r\n")

    async def long_head(writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\n" + b"x: hunter2\r\n" * 100_000)
            await writer.drain()

    async def nothing(_writer: asyncio.StreamWriter) -> None:
        """Close the connection."""

    for script in (rubbish, long_head, nothing, answer(400, body=b"hunter2")):
        office.receiver.then(script)
        await office.end_job()
        await office.turn()
    told = await office.deliveries()
    assert [one["status"] for one in told] == ["pending"] * 4
    broken = "the connection broke before an answer"
    assert [one["error"] for one in told] == [broken, broken, broken, "answered 400"]


async def test_a_slow_receiver_never_slows_another(office: Office) -> None:
    """Its deliveries wait; the others' go, while it has not answered any."""
    office.receiver.always = hang
    for _ in range(6):
        await office.end_job()
    running = asyncio.create_task(office.sender.loop.run())
    try:
        await until(lambda: len(office.receiver.received) == 4)
        async with receiving() as quick:
            for _ in range(8):
                await office.end_job(quick.url)
            await until(lambda: len(quick.received) == 8)
            await until(lambda: office.sender._sending.keys() == {f"127.0.0.1:{office.receiver.port}"})
        assert len(office.receiver.received) == office.receiver.most_at_once == 4
    finally:
        await office.sender.loop.stop(within_seconds=0)
        await running


async def test_who_kept_us_waiting_has_one_place_until_it_answers(office: Office) -> None:
    office.sender._post = Post(allow_private=True, tls=trust(), try_seconds=0.2)
    office.receiver.always = hang
    for _ in range(6):
        await office.end_job()
    assert await office.turn() == 4
    assert {one["error"] for one in await office.deliveries()} == {None, "no answer in time"}
    assert await office.turn_later() == 1
    office.receiver.always = answer(200)
    assert [await office.turn_later(), await office.turn_later()] == [1, 4]


async def test_a_hundred_slow_receivers_take_none_of_the_others_places(office: Office) -> None:
    office.sender._slow = {f"slow-{number}.test:80" for number in range(100)}
    for number in range(3):
        await office.end_job(f"http://slow-{number}.test/")
    await office.end_job()
    assert await office.sender._turn(150) == 1
    await rest(office.sender.loop)
    assert len(office.receiver.received) == 1
    assert await office.sender._turn_slow(2) == 2
    assert await office.sender._turn_slow(2) == 1
    await office.sender.slow_loop.stop(within_seconds=5)


async def test_one_targets_thousand_do_not_hide_another(office: Office) -> None:
    """Each turn takes a few of each target, and goes on where the last one ran out of places."""
    await office.end_job("http://a.test/")
    await office.end_job("http://b.test/")
    await office.hand.sql(
        "INSERT INTO deliveries SELECT gen_random_uuid(), job_id, user_id, team_id, type, url, target, body, status, 0,"
        " now() - interval '1 hour', give_up_at, NULL, NULL, created_at, NULL, NULL"
        " FROM deliveries, generate_series(1, 1000) WHERE target = 'a.test:80' AND status = 'pending'"
    )
    db, now = office.hand.gateway.wiring.db, datetime.now(UTC)
    taken = await claim_due(db, 100, after="", rooms={}, others=4, now=now)
    assert [one.target for one in taken] == ["a.test:80"] * 4 + ["b.test:80"]
    first = await claim_due(db, 2, after="", rooms={"a.test:80": 1}, others=4, now=now)
    assert [one.target for one in first] == ["a.test:80"]
    assert not await claim_due(db, 2, after="a.test:80", rooms={}, others=4, now=now)
    assert not await claim_due(db, 2, after="", rooms={"a.test:80": 0}, others=4, now=now)


async def test_looking_for_what_is_due_reads_the_index_from_target_to_target(office: Office) -> None:
    await office.end_job("http://a.test/")
    await office.hand.sql(
        "INSERT INTO deliveries SELECT gen_random_uuid(), job_id, user_id, team_id, type, url,"
        " 'host-' || n % 20 || ':80', body, status, 0, now() + interval '1 hour', give_up_at, NULL, NULL, created_at"
        " FROM deliveries, generate_series(1, 4000) n WHERE target = 'a.test:80' AND status = 'pending'"
    )
    async with office.hand.gateway.wiring.db.plain() as plain:
        await plain.execute("ANALYZE deliveries")
        told = await plain.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {claims._CLAIM}",
            "",
            200,
            ["a.test:80"],
            [1],
            datetime.now(UTC),
            4,
        )
    plan = told[0]["Plan"]
    assert "Seq Scan" not in json.dumps(plan)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 500
    await office.hand.sql("DELETE FROM deliveries WHERE target LIKE 'host-%'")


async def test_no_connection_of_the_pool_is_held_while_a_receiver_is_asked(office: Office) -> None:
    held: list[int] = []
    pool: Any = office.hand.gateway.wiring.db._engine.pool

    async def look(writer: asyncio.StreamWriter) -> None:
        held.append(pool.checkedout())
        await answer(200)(writer)

    office.receiver.then(look)
    await office.end_job()
    await office.turn()
    assert held == [0]


async def test_two_replicas_send_each_once(office: Office) -> None:
    for _ in range(8):
        await office.end_job()
    other = Sender(office.hand.gateway.wiring)
    found = await asyncio.gather(office.sender._turn(150), other._turn(150))
    await asyncio.gather(rest(office.sender.loop), rest(other.loop))
    assert sum(found) == len(office.receiver.received) == 8
    assert len({one.headers["webhook-id"] for one in office.receiver.received}) == 8
    assert {one["tries"] for one in await office.deliveries()} == {1}


async def test_what_another_is_just_claiming_is_passed_over_not_waited_for(office: Office) -> None:
    for _ in range(8):
        await office.end_job()
    db, now = office.hand.gateway.wiring.db, datetime.now(UTC)
    async with db.begin_plain() as plain:
        theirs = {row["id"] for row in await plain.fetch(claims._CLAIM, "", 150, [], [], now, 4)}
        ours = {one.id for one in await asyncio.wait_for(claim_due(db, 150, after="", rooms={}, others=4, now=now), 5)}
    assert (len(theirs), len(ours), theirs & ours) == (4, 4, set())


async def test_killed_between_send_and_store_it_is_sent_again_with_the_same_id(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object) -> None:
        """Nothing is stored."""

    await office.end_job()
    with monkeypatch.context() as patched:
        patched.setattr(office.sender, "_keep", killed)
        await office.turn()
    assert (await office.delivery())["status"] == "pending"
    assert await office.turn() == 0, "its lease stands"
    await office.turn_later()
    one, two = office.receiver.received
    assert one.headers["webhook-id"] == two.headers["webhook-id"]
    assert one.body == two.body
    assert (await office.delivery())["status"] == "delivered"


async def test_on_a_stop_leases_are_given_back_and_a_try_counts_if_it_went_out(office: Office) -> None:
    asked = asyncio.Event()

    async def never(_host: str, _port: int) -> list[str]:
        asked.set()
        await asyncio.Event().wait()
        return []

    office.sender._post = Post(allow_private=True, tls=trust(), resolve=never)
    office.receiver.always = hang
    await office.end_job("http://never.test/")
    await office.end_job()
    await office.sender._turn(150)
    await asked.wait()
    await until(lambda: len(office.receiver.received) == 1)
    await office.sender.loop.stop(within_seconds=0)
    unsent, sent = await office.deliveries()
    assert (unsent["tries"], unsent["status"]) == (0, "pending")
    assert (sent["tries"], sent["status"]) == (1, "pending")
    rows = await office.hand.sql("SELECT count(*) FROM deliveries WHERE status = 'pending' AND next_try_at <= now()")
    assert rows[0]["count"] == 2
    assert not office.sender._sending


async def test_what_a_lost_lease_brought_changes_nothing(office: Office) -> None:
    """Asked for again in the middle of a try: that try's end is no longer the delivery's."""
    office.receiver.then(hang)
    await office.end_job()
    office.sender._post = Post(allow_private=True, tls=trust(), try_seconds=0.2)
    await office.sender._turn(150)
    await until(lambda: len(office.receiver.received) == 1)
    delivery = await office.delivery()
    again = await office.ask("POST", f"/v1/deliveries/{delivery['id']}/redeliver")
    assert (again["status"], again["tries"]) == ("pending", 0)
    await rest(office.sender.loop)
    assert (await office.delivery())["error"] is None
    await office.turn()
    assert (await office.delivery())["status"] == "delivered"


async def test_one_that_has_arrived_can_be_asked_for_again(office: Office) -> None:
    await office.end_job()
    await office.turn()
    delivered = await office.delivery()
    again = await office.ask("POST", f"/v1/deliveries/{delivered['id']}/redeliver")
    assert again["id"] == delivered["id"]
    assert (again["status"], again["delivered_at"]) == ("pending", None)
    assert await office.turn() == 1
    one, two = office.receiver.received
    assert (one.headers["webhook-id"], one.body) == (two.headers["webhook-id"], two.body)
    assert (await office.delivery())["status"] == "delivered"


async def test_tries_are_counted_by_what_came_of_them(office: Office) -> None:
    def count(outcome: str) -> float:
        value = office.hand.gateway.wiring.metrics.registry.get_sample_value(
            "falgate_delivery_tries_total", {"outcome": outcome}
        )
        return value or 0.0

    office.receiver.then(answer(500), answer(410))
    for _ in range(3):
        await office.end_job()
        await office.turn()
    assert {name: count(name) for name in ("answered", "gone", "delivered", "timeout")} == {
        "answered": 1, "gone": 1, "delivered": 1, "timeout": 0,
    }  # fmt: skip
