"""The video through the gateway: whole and in parts, for whoever may see the job; what is said when there is none."""

import asyncio
import gc
import io
import json
import logging
import socket
import tracemalloc
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from app import http
from app.logs import set_up_logs
from app.tokens import Grant
from app.web import edge
from tests.gateway import Gateway, Person
from tests.http.world import refusal

from .cdn import Cdn, File
from .videos import fetch, make_job

pytestmark = pytest.mark.asyncio(loop_scope="package")

WHOLE = File().part(0, 1000)


@pytest.fixture
def fresh(cdn: Cdn) -> Cdn:
    """The CDN, with nothing remembered of what was asked before."""
    cdn.asked.clear()
    cdn.left.clear()
    cdn.go_on.clear()
    cdn.sent = 0
    return cdn


async def test_a_video_comes_as_it_is(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    job_id = await make_job(gateway, ann, fresh.put("boat.mp4", File()))
    answer = await fetch(gateway, job_id, headers=ann.headers)
    assert (answer.status_code, answer.content) == (200, WHOLE)
    told = {name: answer.headers[name] for name in ("content-type", "content-length", "etag", "content-disposition")}
    assert told == {
        "content-type": "video/mp4", "content-length": "1000", "etag": '"one"',
        "content-disposition": f'inline; filename="{job_id}.mp4"',
    }  # fmt: skip
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers.get_list("cache-control") == ["no-store"]
    (policy,) = answer.headers.get_list("content-security-policy")
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    (asked,) = fresh.asked
    assert asked.method == "GET"
    assert not {"authorization", "cookie", "range"} & set(asked.headers)


async def test_head_tells_the_same_and_sends_nothing(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    job_id = await make_job(gateway, ann, fresh.put("boat.mp4", File()))
    whole = await fetch(gateway, job_id, headers=ann.headers)
    head = await fetch(gateway, job_id, method="HEAD", headers=ann.headers)
    varying = {"date", "x-request-id"}
    assert {name: head.headers[name] for name in head.headers if name not in varying} == {
        name: whole.headers[name] for name in whole.headers if name not in varying
    }
    assert (head.status_code, head.content) == (200, b"")
    assert [asked.method for asked in fresh.asked] == ["GET", "HEAD"]
    part = await fetch(gateway, job_id, method="HEAD", headers=ann.headers | {"Range": "bytes=0-9"})
    assert (part.status_code, part.headers["content-range"]) == (206, "bytes 0-9/1000")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=990-", 990, 1000), ("bytes=-5", 995, 1000), ("bytes=500-5000", 500, 1000),
     ("BYTES=3-3", 3, 4), ("bytes=-5000", 0, 1000)],
)  # fmt: skip
async def test_one_range_is_answered_with_that_part(
    gateway: Gateway, ann: Person, fresh: Cdn, asked: str, start: int, end: int
) -> None:
    job_id = await make_job(gateway, ann, fresh.put("boat.mp4", File()))
    answer = await fetch(gateway, job_id, headers=ann.headers | {"Range": asked})
    assert (answer.status_code, answer.content) == (206, WHOLE[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/1000"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-3", "bytes=-", "bytes=a-b", "seconds=0-1", "bytes 0-1"])
async def test_what_is_no_single_range_is_answered_with_the_whole(
    gateway: Gateway, ann: Person, fresh: Cdn, asked: str
) -> None:
    job_id = await make_job(gateway, ann, fresh.put("boat.mp4", File()))
    answer = await fetch(gateway, job_id, headers=ann.headers | {"Range": asked})
    assert (answer.status_code, answer.content) == (200, WHOLE)


async def test_a_range_behind_the_end_is_refused(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    job_id = await make_job(gateway, ann, fresh.put("boat.mp4", File()))
    answer = await fetch(gateway, job_id, headers=ann.headers | {"Range": "bytes=1000-"})
    assert refusal(answer, 416, "range-not-satisfiable")["size_bytes"] == 1000
    assert answer.headers["content-range"] == "bytes */1000"


async def test_a_source_that_takes_no_ranges_sends_the_whole(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    job_id = await make_job(gateway, ann, fresh.put("whole.mp4", File(takes_ranges=False)))
    answer = await fetch(gateway, job_id, headers=ann.headers | {"Range": "bytes=5-9"})
    assert (answer.status_code, answer.content) == (200, WHOLE)
    assert "content-range" not in answer.headers


async def test_if_range_is_passed_on(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    job_id = await make_job(gateway, ann, fresh.put("boat.mp4", File()))
    for etag, status in (('"one"', 206), ('"another"', 200)):
        headers = ann.headers | {"Range": "bytes=5-9", "If-Range": etag}
        assert (await fetch(gateway, job_id, headers=headers)).status_code == status


async def test_another_part_than_was_asked_for_is_not_passed_on(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    for told in ("bytes 6-10/1000", "bytes 5-2000/1000", "bytes 5-", "nonsense"):
        job_id = await make_job(gateway, ann, fresh.put("odd.mp4", File(content_range=told)))
        answer = await fetch(gateway, job_id, headers=ann.headers | {"Range": "bytes=5-9"})
        refusal(answer, 502, "video-unavailable")


@pytest.mark.parametrize("told", ["bytes 5-900/1000", "bytes 5-6/1000"])
async def test_a_part_that_is_not_as_long_as_it_says_breaks_off(
    gateway: Gateway, ann: Person, fresh: Cdn, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Too little of it, or too much; whatever its Content-Length says."""
    odd = File(size=10, takes_ranges=False, content_range=told)
    job_id = await make_job(gateway, ann, fresh.put("odd.mp4", odd))
    with pytest.raises(httpx.RemoteProtocolError):
        await fetch(gateway, job_id, headers=ann.headers | {"Range": "bytes=5-900"})
    assert "came than it had said" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_size_that_is_no_number_of_bytes_is_passed_over(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    for size in ("9" * 5000, "-1", "x"):
        headers = {"content-type": "video/mp4", "content-range": f"bytes */{size}"}
        job_id = await make_job(gateway, ann, fresh.put("odd.mp4", File(status=416, size=0, headers=headers)))
        answer = await fetch(gateway, job_id, headers=ann.headers | {"Range": "bytes=5-9"})
        assert refusal(answer, 416, "range-not-satisfiable")["size_bytes"] is None


async def test_a_length_that_is_not_told_is_no_trouble(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    job_id = await make_job(gateway, ann, fresh.put("long.mp4", File(says_length=False)))
    answer = await fetch(gateway, job_id, headers=ann.headers)
    assert (answer.content, "content-length" in answer.headers) == (WHOLE, False)


@pytest.mark.parametrize(
    ("told", "output", "shown", "suffix"),
    [("video/mp4", None, "video/mp4", "mp4"), ("application/octet-stream", "video/webm", "video/webm", "webm"),
     ("binary/octet-stream", None, "video/mp4", "mp4"), ("image/svg+xml", None, "application/octet-stream", "bin"),
     ("image/gif; x=y", "video/mp4", "image/gif", "gif")],
)  # fmt: skip
async def test_only_types_that_nothing_runs_are_told(
    gateway: Gateway, ann: Person, fresh: Cdn, told: str, output: str | None, shown: str, suffix: str
) -> None:
    url = fresh.put("typed", File(headers={"content-type": told}))
    job_id = await make_job(gateway, ann, url, **({"content_type": output} if output else {}))
    answer = await fetch(gateway, job_id, headers=ann.headers)
    assert answer.headers["content-type"] == shown
    assert answer.headers["content-disposition"].endswith(f'.{suffix}"')


async def test_who_may_see_a_job_may_see_its_video_and_nobody_else(gateway: Gateway, fresh: Cdn) -> None:
    mia = await gateway.make_person()
    job_id = await make_job(gateway, mia, fresh.put("boat.mp4", File()))
    may = {
        "own": mia, "lead": await gateway.make_person("lead", mia.team_id),
        "finance": await gateway.make_person("finance"), "admin": await gateway.make_person("admin"),
    }  # fmt: skip
    for who, person in may.items():
        assert (await fetch(gateway, job_id, headers=person.headers)).status_code == 200, who
        link = (await gateway.job(person, job_id))["content_url"]
        assert (await gateway.client.get(link)).content == WHOLE, who
    for role, team in (("member", mia.team_id), ("member", None), ("lead", None)):
        other = await gateway.make_person(role, team)
        refusal(await fetch(gateway, job_id, headers=other.headers), 404, "not-found")
    refusal(await fetch(gateway, job_id), 401, "key-unknown")
    refusal(await fetch(gateway, "job_" + "0" * 32, headers=mia.headers), 404, "not-found")
    refusal(await fetch(gateway, "nonsense", headers=mia.headers), 404, "not-found")
    await gateway.admin("DELETE", f"/v1/keys/{mia.key_id}")
    refusal(await fetch(gateway, job_id, headers=mia.headers), 401, "key-unknown")


async def test_the_link_of_a_job_opens_its_video_and_nothing_else(
    gateway: Gateway, fresh: Cdn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="falgate")
    mia = await gateway.make_person()
    job_id = await make_job(gateway, mia, fresh.put("boat.mp4", File()))
    other = await make_job(gateway, mia, fresh.put("boat.mp4", File()))
    job = await gateway.job(mia, job_id)
    assert list(job)[-1] == "content_url"
    token = parse_qs(urlsplit(job["content_url"]).query)["token"][0]
    assert job["content_url"].startswith(f"{gateway.url}/v1/jobs/{job_id}/content?token=ft_")
    assert (await fetch(gateway, job_id, params={"token": token})).content == WHOLE
    assert (await fetch(gateway, job_id, params={"token": token}, headers={"Range": "bytes=0-1"})).status_code == 206
    events = await gateway.client.get(f"/v1/jobs/{job_id}", headers={"Authorization": f"Bearer {token}"})
    refusal(events, 401, "token-unknown")
    refusal(await fetch(gateway, other, params={"token": token}), 401, "token-unknown")
    refusal(await fetch(gateway, job_id, params={"token": token[:-1] + "_"}), 401, "token-unknown")
    refusal(await fetch(gateway, job_id, params=[("token", token), ("token", token)]), 401, "token-unknown")
    await gateway.admin("DELETE", f"/v1/keys/{mia.key_id}")
    refusal(await fetch(gateway, job_id, params={"token": token}), 401, "key-unknown")
    assert token[:20] not in caplog.text


async def test_a_link_is_good_for_an_hour(gateway: Gateway, ann: Person) -> None:
    tokens, now = gateway.wiring.tokens, gateway.wiring.clock()
    assert tokens is not None
    job_id = await make_job(gateway, ann, "https://fal.media/boat.mp4")
    token = parse_qs(urlsplit((await gateway.job(ann, job_id))["content_url"]).query)["token"][0]
    _, grant = tokens.read(token, now=now + timedelta(minutes=59))
    assert grant.scope == "content"
    assert grant.expires_at - now < timedelta(minutes=66)


async def test_a_link_that_a_token_is_shown_lasts_no_longer_than_that(gateway: Gateway, ann: Person) -> None:
    tokens, soon = gateway.wiring.tokens, gateway.wiring.clock() + timedelta(minutes=5)
    assert tokens is not None
    job_id = await make_job(gateway, ann, "https://fal.media/boat.mp4")
    made = await gateway.client.post("/v1/tokens", json={"scope": "read", "lifetime_seconds": 200}, headers=ann.headers)
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    job = (await gateway.client.get(f"/v1/jobs/{job_id}", headers=headers)).json()
    token = parse_qs(urlsplit(job["content_url"]).query)["token"][0]
    _, grant = tokens.read(token, now=gateway.wiring.clock())
    assert grant.scope == "content"
    assert grant.expires_at < soon


async def test_a_reading_token_of_another_kind_sees_the_video_as_far_as_it_reaches(
    gateway: Gateway, ann: Person, fresh: Cdn
) -> None:
    tokens = gateway.wiring.tokens
    assert tokens is not None
    job_id = await make_job(gateway, ann, fresh.put("boat.mp4", File()))
    async with gateway.wiring.db.plain() as plain:
        secret_hash = await plain.fetchval(
            "SELECT hash FROM key_secrets WHERE key_id = $1", ann.key_id.removeprefix("key_")
        )
    soon = gateway.wiring.clock() + timedelta(minutes=5)
    for end_user, status in ((None, 200), ("somebody else", 404)):
        token = tokens.mint(secret_hash, Grant(scope="read", expires_at=soon, end_user=end_user))
        headers = {"Authorization": f"Bearer {token}"}
        assert (await fetch(gateway, job_id, headers=headers)).status_code == status
        refusal(await fetch(gateway, job_id, params={"token": token}), 401, "token-unknown")


async def test_every_place_that_shows_a_job_shows_where_its_video_is(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    job_id = await make_job(gateway, ann, fresh.put("boat.mp4", File()))
    listed = (await gateway.client.get("/v1/jobs?limit=1", headers=ann.headers)).json()["data"][0]
    events = (await gateway.client.get(f"/v1/jobs/{job_id}/events", headers=ann.headers)).text
    streamed = next(json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: "))
    waited = await gateway.job(ann, job_id, wait=1)
    for job in (listed, streamed, waited):
        assert (await gateway.client.get(job["content_url"])).content == WHOLE


@pytest.mark.parametrize("status", ["failed", "canceled", "succeeded"])
async def test_a_job_without_a_video_says_so(gateway: Gateway, ann: Person, status: str) -> None:
    job_id = await make_job(gateway, ann, None, status=status)
    problem = refusal(await fetch(gateway, job_id, headers=ann.headers), 404, "video-missing")
    assert problem["job_status"] == status
    assert (await gateway.job(ann, job_id))["content_url"] is None


async def test_a_job_that_has_not_ended_says_so(gateway: Gateway, ann: Person) -> None:
    job = (await gateway.submit(ann)).json()
    assert job["content_url"] is None
    refusal(await fetch(gateway, job["id"], headers=ann.headers), 409, "job-not-ended")


async def test_an_erased_video_is_gone(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    job_id = await make_job(gateway, ann, fresh.put("boat.mp4", File()))
    async with gateway.wiring.db.plain() as plain:
        await plain.execute("UPDATE jobs SET payload_erased_at = now() WHERE id = $1", job_id[4:])
    refusal(await fetch(gateway, job_id, headers=ann.headers), 410, "video-erased")
    assert (await gateway.job(ann, job_id))["content_url"] is None
    assert fresh.asked == []


@pytest.mark.parametrize("status", [404, 410])
async def test_a_video_that_fal_keeps_no_longer_has_lapsed(
    gateway: Gateway, ann: Person, fresh: Cdn, status: int
) -> None:
    job_id = await make_job(gateway, ann, fresh.put("gone.mp4", File(status=status)))
    refusal(await fetch(gateway, job_id, headers=ann.headers), 410, "video-lapsed")


async def test_forbidden_is_lapsed_once_fal_need_not_keep_it(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    job_id = await make_job(gateway, ann, fresh.put("forbidden.mp4", File(status=403)))
    refusal(await fetch(gateway, job_id, headers=ann.headers), 502, "video-unavailable")
    async with gateway.wiring.db.plain() as plain:
        await plain.execute("UPDATE jobs SET expires_at = now() - interval '1 day' WHERE id = $1", job_id[4:])
    refusal(await fetch(gateway, job_id, headers=ann.headers), 410, "video-lapsed")


HTML = {"content-type": "text/html"}
PACKED = {"content-type": "video/mp4", "content-encoding": "gzip"}


@pytest.mark.parametrize(
    "file", [File(status=500), File(status=429), File(status=204, size=0), File(headers=HTML), File(headers=PACKED)]
)
async def test_trouble_at_the_source_is_the_operators(
    gateway: Gateway, ann: Person, fresh: Cdn, file: File, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await make_job(gateway, ann, fresh.put("trouble.mp4", file))
    answer = await fetch(gateway, job_id, headers=ann.headers)
    assert "Retry-After" in answer.headers
    refusal(answer, 502, "video-unavailable")
    assert "could not be read from fal" in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:10/x.mp4", "https://127.0.0.1/x.mp4", "https://localhost/x.mp4", "http://example.com/x.mp4",
        "https://169.254.169.254/latest", "file:///etc/passwd", "https://u:p@example.com/x", "nonsense",
    ],
)  # fmt: skip
async def test_an_address_that_is_not_public_is_not_fetched(gateway: Gateway, ann: Person, url: str) -> None:
    job_id = await make_job(gateway, ann, url)
    refusal(await fetch(gateway, job_id, headers=ann.headers), 502, "video-unavailable")
    refusal(await fetch(gateway, job_id, headers=ann.headers, params={"redirect": "1"}), 502, "video-unavailable")


async def test_a_redirect_never_leads_inside(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    fresh.put("boat.mp4", File())
    inside = {"location": f"{fresh.url}/boat.mp4"}
    job_id = await make_job(gateway, ann, fresh.put("moved.mp4", File(status=302, size=0, headers=inside)))
    refusal(await fetch(gateway, job_id, headers=ann.headers), 502, "video-unavailable")
    assert [asked.path for asked in fresh.asked] == ["/moved.mp4"]


async def test_redirect_leads_to_fal(gateway: Gateway, ann: Person) -> None:
    job_id = await make_job(gateway, ann, "https://v3.fal.media/files/boat.mp4")
    answer = await fetch(gateway, job_id, headers=ann.headers, params={"redirect": "1"})
    assert (answer.status_code, answer.headers["location"]) == (302, "https://v3.fal.media/files/boat.mp4")
    problem = refusal(
        await fetch(gateway, job_id, headers=ann.headers, params={"redirect": "yes"}), 422, "invalid-input"
    )
    assert problem["errors"][0]["parameter"] == "redirect"


async def read_until(answer: httpx.Response, size: int) -> AsyncIterator[bytes]:
    seen = 0
    async for chunk in answer.aiter_raw():
        yield chunk
        seen += len(chunk)
        if seen >= size:
            return


async def test_who_hangs_up_lets_go_of_the_source(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    """While it comes, and while nothing comes."""
    for file in (File(size=10**9), File(size=10**6, waits_after=100_000)):
        fresh.left.clear()
        job_id = await make_job(gateway, ann, fresh.put("endless.mp4", file))
        async with gateway.client.stream("GET", f"/v1/jobs/{job_id}/content", headers=ann.headers) as answer:
            assert [chunk async for chunk in read_until(answer, 65_536)]
        async with asyncio.timeout(20):
            await fresh.left.wait()
        assert fresh.sent < 10**8


async def test_a_video_that_breaks_off_is_not_passed_off_as_whole(
    gateway: Gateway, ann: Person, fresh: Cdn, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = await make_job(gateway, ann, fresh.put("broken.mp4", File(size=300_000, breaks_after=140_000)))
    with pytest.raises(httpx.RemoteProtocolError):
        await fetch(gateway, job_id, headers=ann.headers)
    assert "broke off" in caplog.text
    assert "Traceback" not in caplog.text


async def test_what_breaks_off_is_no_error_of_ours_in_the_log(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    """The server would call it one, each time, beside the line that says why."""
    root, written = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level
    job_id = await make_job(gateway, ann, fresh.put("broken.mp4", File(size=300_000, breaks_after=140_000)))
    try:
        set_up_logs(level="info", layout="text", secrets=[])
        for handler in root.handlers:
            assert isinstance(handler, logging.StreamHandler)
            handler.setStream(written)
        with pytest.raises(httpx.RemoteProtocolError):
            await fetch(gateway, job_id, headers=ann.headers)
        logging.getLogger("uvicorn.error").error("what else the server has to say")
    finally:
        root.handlers, root.level = handlers, level
    lines = written.getvalue().splitlines()
    assert ["broke off" in line for line in lines] == [True, False]
    assert "what else" in lines[1]


async def test_a_caller_that_takes_nothing_is_let_go(
    gateway: Gateway, ann: Person, fresh: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "STALL_SECONDS", 0.2)
    job_id = await make_job(gateway, ann, fresh.put("large.mp4", File(size=10**9)))
    async with gateway.client.stream("GET", f"/v1/jobs/{job_id}/content", headers=ann.headers):
        async with asyncio.timeout(20):
            await fresh.left.wait()


async def test_a_video_may_take_longer_than_any_request(
    gateway: Gateway, ann: Person, fresh: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "REQUEST_SECONDS", 1.0)

    async def sleeps(_: object) -> None:
        await asyncio.Event().wait()

    job_id = await make_job(gateway, ann, fresh.put("slow.mp4", File(size=10**6, waits_after=100_000)))
    async with gateway.client.stream("GET", f"/v1/jobs/{job_id}/content", headers=ann.headers) as answer:
        monkeypatch.setattr(gateway.app.state.rooms.submits, "submit", sleeps)
        assert (await gateway.submit(ann)).status_code == 503  # it began later, and has been cut off
        fresh.go_on.set()
        assert len(await answer.aread()) == 10**6


async def test_a_large_video_needs_no_more_memory_than_a_small_one(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    size = 100_000_000
    job_id = await make_job(gateway, ann, fresh.put("large.mp4", File(size=size)))
    seen = 0
    gc.collect()
    tracemalloc.start()
    try:
        async with gateway.client.stream("GET", f"/v1/jobs/{job_id}/content", headers=ann.headers) as answer:
            async for chunk in answer.aiter_raw():
                seen += len(chunk)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == size
    assert most < 8_000_000, most


async def test_a_source_gets_ahead_of_a_slow_caller_by_little(gateway: Gateway, fresh: Cdn) -> None:
    """uvloop takes in at one go whatever lies in the kernel, which else is megabytes of a fast source."""
    download = await gateway.wiring.downloads.open(fresh.put("large.mp4", File(size=10**8)))
    stream = download.response.extensions["network_stream"]
    bytes_ahead = stream.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    await download.aclose()
    assert bytes_ahead in {262_144, 2 * 262_144}, "Linux says twice of what it was told"


async def test_seats_are_given_back(gateway: Gateway, ann: Person, fresh: Cdn) -> None:
    seats: Any = gateway.app.state.rooms.seats
    ok = await make_job(gateway, ann, fresh.put("boat.mp4", File()))
    gone = await make_job(gateway, ann, fresh.put("gone.mp4", File(status=404)))
    for job_id in (ok, gone):
        await fetch(gateway, job_id, headers=ann.headers)
    assert not seats._taken


async def test_whoever_is_told_to_end_is_not_held_up_by_a_long_video(
    gateway: Gateway, ann: Person, fresh: Cdn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http, "_LEAVE_SECONDS", 0.0)
    job_id = await make_job(gateway, ann, fresh.put("slow.mp4", File(size=10**6, waits_after=100_000)))
    stopping = gateway.app.state.rooms.stopping
    try:
        async with gateway.client.stream("GET", f"/v1/jobs/{job_id}/content", headers=ann.headers) as answer:
            stopping.set()
            with pytest.raises(httpx.RemoteProtocolError):
                await answer.aread()
        await fresh.left.wait()
    finally:
        stopping.clear()
    assert "Traceback" not in caplog.text
