"""Where calls go: below FAL_QUEUE_URL and nowhere else."""

import logging

import pytest
from pydantic import SecretStr

from app.fal import (
    Accepted,
    Completed,
    InProgress,
    Queue,
    RequestRef,
    Trouble,
    Unknown,
    alias_ref,
    is_request_id,
)
from app.fal.paths import FalUrl

from .conftest import FAL_KEY, OpenQueue
from .wire import KLING, REQUEST_ID, Act, Heard, accepted, answer, serving

ALIAS = f"/fal-ai/kling-video/requests/{REQUEST_ID}"
OURS = f"/fal-ai/kling-video/v2.1/master/text-to-video/requests/{REQUEST_ID}"


@pytest.mark.parametrize(
    ("endpoint", "alias"),
    [
        ("fal-ai/kling-video/v2.1/master/text-to-video", "fal-ai/kling-video"),
        ("wan/v2.6/text-to-video", "wan/v2.6"),
        ("kling/v4/text-to-video", "kling/v4"),
        ("bytedance/seedance-2.0/fast/text-to-video", "bytedance/seedance-2.0"),
        ("owner/app", "owner/app"),
        ("workflows/owner/name/sub", "workflows/owner/name"),
        ("comfy/owner/name", "comfy/owner/name"),
    ],
)
def test_the_alias_is_the_first_two_segments_or_three_in_a_namespace(endpoint: str, alias: str) -> None:
    result = f"/{alias}/requests/{REQUEST_ID}"
    assert alias_ref(endpoint, REQUEST_ID) == RequestRef(REQUEST_ID, f"{result}/status", result, f"{result}/cancel")


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a?b", "a b", "é", "x" * 129, "%2e"])
def test_an_odd_request_id_has_no_reference(bad: str) -> None:
    assert not is_request_id(bad)
    with pytest.raises(ValueError, match="cannot be the id"):
        alias_ref(KLING, bad)


RETURNED = [
    ("https://queue.fal.run", f"https://queue.fal.run{OURS}", OURS),
    ("https://queue.fal.run/", f"https://queue.fal.run:443{OURS}/", f"{OURS}/"),
    ("https://queue.fal.run", f"https://QUEUE.fal.run{OURS}/response", f"{OURS}/response"),
    ("http://gw:8080/q", f"http://gw:8080/q{OURS}", OURS),
    ("http://gw:8080/q/", f"http://gw:8080{OURS}", OURS),
    ("http://gw:8080/fal", f"http://gw:8080{OURS}", OURS),
    ("http://[::1]:8080", f"http://[::1]:8080{OURS}", OURS),
]


@pytest.mark.parametrize(("queue_url", "returned", "path"), RETURNED)
def test_only_the_path_of_a_returned_url_is_kept(queue_url: str, returned: str, path: str) -> None:
    assert FalUrl(queue_url).path_of(returned, REQUEST_ID) == path


ODD: list[object] = [
    None,
    5,
    "",
    OURS,
    f"https://evil.test{OURS}",
    f"//evil.test{OURS}",
    f"http://queue.fal.run{OURS}",
    f"https://queue.fal.run:8443{OURS}",
    f"https://queue.fal.run.evil.test{OURS}",
    f"https://user:pass@queue.fal.run{OURS}",
    f"https://queue.fal.run@evil.test{OURS}",
    f"https://queue.fal.run:99999{OURS}",
    f"https://[queue.fal.run{OURS}",
    f"ftp://queue.fal.run{OURS}",
    f"https://queue.fal.run{OURS}?to=https://evil.test",
    f"https://queue.fal.run{OURS}?",
    f"https://queue.fal.run{OURS}#x",
    f"https://queue.fal.run/../{REQUEST_ID}",
    f"https://queue.fal.run/a/../../{REQUEST_ID}",
    f"https://queue.fal.run/a//{REQUEST_ID}",
    f"https://queue.fal.run/%2e%2e/{REQUEST_ID}",
    f"https://queue.fal.run/a;b/{REQUEST_ID}",
    f"https://queue.fal.run\\@evil.test/{REQUEST_ID}",
    f"https://queue.fal.run/a\n/{REQUEST_ID}",
    f" https://queue.fal.run/a/{REQUEST_ID}",
    "https://queue.fal.run/fal-ai/kling-video/requests/another",
    f"https://queue.fal.run/{'a/' * 2000}{REQUEST_ID}",
]


@pytest.mark.parametrize("returned", ODD)
def test_an_odd_url_is_replaced_by_the_alias(returned: object) -> None:
    url = FalUrl("https://queue.fal.run")
    assert url.path_of(returned, REQUEST_ID) is None
    urls = {"status_url": returned, "response_url": returned, "cancel_url": returned}
    assert url.returned_ref(KLING, REQUEST_ID, urls) == alias_ref(KLING, REQUEST_ID)


@pytest.mark.parametrize("path", ["@evil.test/", "//evil.test/x", "/../x", "http://evil.test/", ":1/x", "\\evil"])
def test_no_stored_path_leads_to_another_host(path: str) -> None:
    assert FalUrl("https://queue.fal.run/q").at(path, {"logs": "0"}).netloc == b"queue.fal.run"


async def test_a_path_that_is_none_is_trouble(open_queue: OpenQueue) -> None:
    ref = RequestRef("x", "/é\n", "/x#y", "/\0")
    queue = open_queue("http://127.0.0.1:1")
    assert isinstance(await queue.status(ref), Trouble)
    assert isinstance(await queue.result(ref, Completed(None, None)), Trouble)
    assert isinstance(await queue.cancel(ref), Trouble)


async def test_every_call_uses_the_returned_paths_below_the_queue_url(open_queue: OpenQueue) -> None:
    async with serving(Act()) as server:
        base = f"{server.url}/deep/q"

        def act(heard: Heard) -> Act:
            if heard.line.startswith("POST"):
                urls = {f"{name}_url": f"{base}{OURS}/{name}" for name in ("status", "cancel")}
                return accepted(response_url=f"{base}{OURS}", **urls)
            return answer(202, {"status": "IN_PROGRESS"})

        server.act = act
        queue = open_queue(base)
        outcome = await queue.submit(KLING, {}, start_seconds=60)
        assert isinstance(outcome, Accepted)
        assert outcome.ref == RequestRef(REQUEST_ID, f"{OURS}/status", OURS, f"{OURS}/cancel")
        await queue.status(outcome.ref)
        await queue.result(outcome.ref, Completed(None, None))
        await queue.cancel(outcome.ref)
    assert [heard.line.split()[1] for heard in server.heard] == [
        f"/deep/q/{KLING}",
        f"/deep/q{OURS}/status?logs=0",
        f"/deep/q{OURS}",
        f"/deep/q{OURS}/cancel",
    ]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(code: int, open_queue: OpenQueue) -> None:
    async with serving(accepted()) as evil, serving(Act()) as server:
        server.act = answer(code, {"request_id": REQUEST_ID}, headers={"Location": f"{evil.url}/x"})
        queue = open_queue(server.url)
        ref = alias_ref(KLING, REQUEST_ID)
        assert isinstance(await queue.submit(KLING, {}, start_seconds=60), Unknown)
        assert isinstance(await queue.status(ref), Trouble)
        assert isinstance(await queue.result(ref, Completed("x", "y")), Trouble)
        assert isinstance(await queue.cancel(ref), Trouble)
    assert evil.connections == 0
    assert len(server.heard) == 4


async def test_urls_of_another_host_are_not_asked(open_queue: OpenQueue) -> None:
    async with serving(accepted()) as evil, serving(Act()) as server:
        path = f"{evil.url}{ALIAS}"
        server.act = accepted(status_url=path, response_url=path, cancel_url=path)
        queue = open_queue(server.url)
        outcome = await queue.submit(KLING, {}, start_seconds=60)
        assert isinstance(outcome, Accepted)
        server.act = answer(202, {"status": "IN_PROGRESS"})
        assert await queue.status(outcome.ref) == InProgress()
        await queue.result(outcome.ref, Completed(None, None))
        await queue.cancel(outcome.ref)
    assert evil.connections == 0


async def test_a_proxy_of_the_environment_is_not_used(open_queue: OpenQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(accepted()) as proxy, serving(accepted()) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        queue = open_queue(server.url)
        assert isinstance(await queue.submit(KLING, {}, start_seconds=60), Accepted)
        await queue.status(alias_ref(KLING, REQUEST_ID))
    assert proxy.connections == 0


# FAL_KEY


async def test_no_text_carries_the_key(open_queue: OpenQueue, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)  # at DEBUG httpcore logs the headers of replies, these here too
    told = {"detail": f"bad key {FAL_KEY}", "error_type": FAL_KEY, "status": FAL_KEY, "request_id": FAL_KEY}
    headers = {"x-fal-error-type": FAL_KEY, "x-fal-billable-units": FAL_KEY, "x-fal-request-id": FAL_KEY}
    ref = alias_ref(KLING, REQUEST_ID)
    shown: list[object] = []
    async with serving(Act()) as server:
        queue = open_queue(server.url)
        for code in (200, 202, 400, 403, 404, 422, 500):
            server.act = answer(code, told, headers=headers)
            shown += [
                await queue.submit(KLING, {}, start_seconds=60, webhook_url="https://gw.test/att_unguessable"),
                await queue.status(ref),
                await queue.result(ref, Completed("x", None)),
                await queue.cancel(ref),
            ]
        shown += [queue, str(queue), vars(queue)]
    assert "c4n4ry" not in repr(shown)
    assert "c4n4ry" not in caplog.text
    assert "att_unguessable" not in caplog.text


async def test_no_log_at_any_level_carries_the_key_or_the_attempt(
    open_queue: OpenQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(accepted()) as server:
        queue = open_queue(server.url)
        await queue.submit(KLING, {}, start_seconds=60, webhook_url="https://gw.test/att_unguessable")
        await queue.status(alias_ref(KLING, REQUEST_ID))
    assert "connect_tcp" in caplog.text
    assert "c4n4ry" not in caplog.text
    assert "att_unguessable" not in caplog.text


def test_a_key_has_a_name_that_is_no_part_of_it() -> None:
    def named(key: str) -> str:
        return Queue(fal_key=SecretStr(key), queue_url="https://queue.fal.run").key_id

    assert named(FAL_KEY) == named(FAL_KEY) != named(f"{FAL_KEY}x")
    assert len(named(FAL_KEY)) == 16
    assert named(FAL_KEY) not in FAL_KEY


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "ключ", "a\r\nX-Evil: 1"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ValueError, match=r"^FAL_KEY holds characters that cannot be sent$"):
        Queue(fal_key=SecretStr(key), queue_url="https://queue.fal.run")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "queue.fal.run",
        "ftp://x",
        "https://u:p@x",
        "https://x/?a",
        "https://x/#a",
        "https://",
        "http://[",
        "http://x:y",
    ],
)
def test_a_queue_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="a URL of fal's"):
        FalUrl(url)


async def test_a_short_key_is_no_secret_and_changes_no_output() -> None:
    """The word `sandbox` stands in the sandbox's own URLs."""
    async with serving(answer(200, {"video": {"url": "http://127.0.0.1/sandbox/a.mp4"}})) as server:
        queue = Queue(fal_key=SecretStr("sandbox"), queue_url=server.url)
        outcome = await queue.result(alias_ref(KLING, REQUEST_ID), Completed(None, None))
        await queue.aclose()
    assert "/sandbox/a.mp4" in repr(outcome)
