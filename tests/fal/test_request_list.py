"""fal's request list: paged to its end, read with tolerance, and not believed in any doubt."""

import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from app.fal import Failed, Listed, ListedRequest, Platform, Succeeded, Trouble
from app.fal import platform as platform_module
from app.fal.wire import Scrubber

from .conftest import FAL_KEY
from .wire import KLING, Act, Heard, answer, serving

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
OpenPlatform = Callable[[str], Platform]


def item(request_id: object = "one", **members: object) -> dict[str, object]:
    return {
        "request_id": request_id,
        "endpoint_id": KLING,
        "sent_at": "2026-11-20T12:00:00Z",
        "started_at": "2026-11-20T12:00:01.5+00:00",
        "ended_at": None,
        "status_code": None,
        **members,
    }


def page(*items: object, **members: object) -> dict[str, object]:
    return {"items": list(items), "next_cursor": None, "has_more": False, **members}


def query_of(heard: Heard) -> dict[str, list[str]]:
    return parse_qs(urlsplit(heard.line.split(" ")[1]).query)


@pytest.fixture
async def open_platform(roots: ssl.SSLContext) -> AsyncIterator[OpenPlatform]:
    async with AsyncExitStack() as closing:

        def open_one(url: str) -> Platform:
            made = Platform(fal_key=SecretStr(FAL_KEY), admin_key=None, api_url=url, read_seconds=2, tls=roots)
            closing.push_async_callback(made.aclose)
            return made

        yield open_one


async def test_the_list_is_read_to_its_end_under_the_key(open_platform: OpenPlatform) -> None:
    pages: dict[str, dict[str, object]] = {
        "": page(item("one"), item("two"), next_cursor="a/b=", has_more=True),
        "a/b=": page(item("two"), item("three"), next_cursor="c", has_more=True),
        "c": page(item("four")),
    }

    def act(heard: Heard) -> Act:
        return answer(200, pages[query_of(heard).get("cursor", [""])[0]])

    async with serving(act) as server:
        listed = await open_platform(f"{server.url}/v1").requests(KLING)
    assert isinstance(listed, Listed)
    assert [request.fal_request_id for request in listed.requests] == ["one", "two", "three", "four"]
    assert listed.requests[0] == ListedRequest("one", NOON, None, None, None, None)
    assert [heard.line.split("?")[0] for heard in server.heard] == ["GET /v1/models/requests/by-endpoint"] * 3
    assert query_of(server.heard[0]) == {"endpoint_id": [KLING], "limit": ["100"]}
    assert {heard.headers["authorization"] for heard in server.heard} == {f"Key {FAL_KEY}"}


async def test_one_request_is_asked_for_with_its_payloads(open_platform: OpenPlatform) -> None:
    named = item(
        ended_at="2026-11-20T12:03:00Z",
        status_code=200,
        json_input={"prompt": "a boat"},
        json_output={"video": {"url": "https://v"}},
        duration=178.5,
        unheard_of=[1],
    )
    async with serving(answer(200, page(named))) as server:
        request = await open_platform(server.url).request(KLING, "one")
    assert isinstance(request, ListedRequest)
    assert request.input == {"prompt": "a boat"}
    assert request.result == Succeeded({"video": {"url": "https://v"}}, None)
    assert query_of(server.heard[0]) == {
        "endpoint_id": [KLING],
        "request_id": ["one"],
        "expand": ["payloads"],
        "limit": ["100"],
    }


async def test_a_request_that_is_not_named_is_none_and_a_list_of_others_no_answer(open_platform: OpenPlatform) -> None:
    async with serving(answer(200, page())) as server:
        platform = open_platform(server.url)
        assert await platform.request(KLING, "one") is None
        server.act = answer(200, page(item("two")))
        assert isinstance(await platform.request(KLING, "one"), Trouble)


UNREADABLE: list[Any] = [
    {},
    [],
    {"items": None, "has_more": False},
    {"items": {}, "has_more": False},
    page("one"),
    page(None),
    page({}),
    page(item(request_id=None)),
    page(item(request_id="../../x")),
    page(item(sent_at=None)),
    page(item(sent_at="yesterday")),
    page(item(sent_at=1763640000)),
    page(item(sent_at="2026-11-20T12:00:00")),  # whose noon?
    page(item(ended_at="late")),
    page(item(ended_at=7)),
    page(item(endpoint_id="fal-ai/another/one")),
    page(item(), has_more=True),
    page(item(), has_more=True, next_cursor=""),
    page(item(), has_more=True, next_cursor=7),
    page(item(), has_more="no"),
    page(item(), has_more=[]),
    page(item(), has_more="yes", next_cursor="c"),
    page(item(), has_more=None, next_cursor=7),
]


@pytest.mark.parametrize("body", UNREADABLE, ids=lambda body: json.dumps(body)[-60:])
async def test_whatever_cannot_be_read_is_trouble(open_platform: OpenPlatform, body: object) -> None:
    async with serving(answer(200, body)) as server:
        assert isinstance(await open_platform(server.url).requests(KLING), Trouble)


@pytest.mark.parametrize("body", [page(), {"items": []}, page(has_more=None), page(next_cursor="left over")], ids=str)
async def test_an_empty_list_is_a_list(open_platform: OpenPlatform, body: object) -> None:
    async with serving(answer(200, body)) as server:
        assert await open_platform(server.url).requests(KLING) == Listed(())


@pytest.mark.parametrize(
    "act",
    [
        answer(code, {"error": {"type": "server_error", "message": FAL_KEY}}, headers={"Retry-After": "7"})
        for code in (202, 301, 400, 401, 403, 404, 429, 500, 502)
    ]
    + [answer(203, page()), answer(500, page())]
    + [answer(200, b"<html>"), answer(200, b'{"items": ['), answer(200, b""), Act(then="reset"), Act(then="close")],
    ids=range(16),
)
async def test_every_other_answer_is_trouble_and_shows_no_key(open_platform: OpenPlatform, act: Act) -> None:
    async with serving(act) as server:
        trouble = await open_platform(server.url).requests(KLING)
    assert isinstance(trouble, Trouble)
    assert FAL_KEY not in repr(trouble)


async def test_a_page_in_the_middle_that_cannot_be_read_spoils_all(open_platform: OpenPlatform) -> None:
    def act(heard: Heard) -> Act:
        if "cursor" in query_of(heard):
            return answer(502, b"<html>")
        return answer(200, page(item(), has_more=True, next_cursor="c"))

    async with serving(act) as server:
        assert isinstance(await open_platform(server.url).requests(KLING), Trouble)


async def test_a_cursor_that_comes_again_is_trouble(open_platform: OpenPlatform) -> None:
    async with serving(answer(200, page(item(), has_more=True, next_cursor="c"))) as server:
        assert isinstance(await open_platform(server.url).requests(KLING), Trouble)
        assert len(server.heard) == 2


async def test_a_list_without_an_end_is_trouble(open_platform: OpenPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_module, "_MOST_PAGES", 5)

    def act(_heard: Heard) -> Act:
        return answer(200, page(item(), has_more=True, next_cursor=f"c{len(server.heard)}"))

    async with serving(act) as server:
        assert isinstance(await open_platform(server.url).requests(KLING), Trouble)
        assert len(server.heard) == 5


@pytest.mark.parametrize(
    ("code", "output", "ended", "expected"),
    [
        (200, {"video": {}}, True, Succeeded),
        (200, None, True, None),
        (200, {"video": {}}, False, None),
        (None, {"video": {}}, True, None),
        (202, {"video": {}}, True, None),
        (307, {"detail": "x"}, True, None),
        (400, {"detail": "x"}, True, Failed),
        (401, None, True, None),
        (403, {"detail": "User is locked"}, True, Failed),
        (422, {"detail": [{"msg": "no", "type": "one_of", "loc": ["body", "x"]}]}, True, Failed),
        (500, None, True, Failed),
        (True, {"video": {}}, True, None),
    ],
)
def test_how_a_listed_request_ended(
    code: int | None, output: dict[str, object] | None, *, ended: bool, expected: type | None
) -> None:
    result = ListedRequest(
        "one", NOON, NOON if ended else None, code if code is not True else None, None, output
    ).result
    assert type(result) is (expected or type(None))
    if isinstance(result, Failed):
        assert (result.error.code, result.billable, result.start_deadline) == (code, None, False)


def test_both_keys_and_their_secret_halves_are_taken_out_of_what_is_carried_on() -> None:
    first, second = "first-id:first-secret-of-the-tests", "second-id:second-secret-of-the-tests"
    scrub = Scrubber(SecretStr(first), SecretStr(second))
    carried = f"{first} {second} first-secret-of-the-tests second-secret-of-the-tests"
    assert scrub.bytes(carried.encode()) == b"[FAL_KEY] [FAL_KEY] [FAL_KEY] [FAL_KEY]"
    assert scrub.reason(OSError(f"no way to {second}")) == "OSError: no way to [FAL_KEY]"
