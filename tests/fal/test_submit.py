"""Submit: what goes out, and every code fal can answer with."""

import asyncio
import json
from dataclasses import replace

import pytest

from app.fal import Accepted, NotSent, Refused, RefusedUs, RequestRef, SubmitOutcome, Unknown
from app.fal.messages import Reply
from app.fal.paths import FalUrl
from app.fal.verdicts import read_submit

from .conftest import FAL_KEY, OpenQueue
from .wire import KLING, REQUEST_ID, Act, accepted, answer, serving

DETAIL_LIST = {"detail": [{"loc": ["body", "prompt"], "msg": "field required", "type": "value_error.missing"}]}
ALIAS = f"/fal-ai/kling-video/requests/{REQUEST_ID}"


async def submit_to(act: Act, open_queue: OpenQueue) -> SubmitOutcome:
    async with serving(act) as server:
        return await open_queue(server.url).submit(KLING, {"prompt": "a fox"}, start_seconds=3600)


async def test_a_submit_sends_the_input_itself_the_key_and_both_start_deadlines(
    open_queue: OpenQueue,
) -> None:
    async with serving(accepted(queue_position=3)) as server:
        outcome = await open_queue(server.url).submit(
            KLING, {"prompt": "a fox ✓"}, start_seconds=3600, webhook_url="https://gw.test/hook/att_1?x=1&y=2"
        )
    assert outcome == Accepted(RequestRef(REQUEST_ID, f"{ALIAS}/status", ALIAS, f"{ALIAS}/cancel"), queue_position=3)
    (heard,) = server.heard
    assert heard.line == f"POST /{KLING}?fal_webhook=https%3A%2F%2Fgw.test%2Fhook%2Fatt_1%3Fx%3D1%26y%3D2 HTTP/1.1"
    assert json.loads(heard.body) == {"prompt": "a fox ✓"}
    assert heard.headers["authorization"] == f"Key {FAL_KEY}"
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["x-fal-request-start-timeout"] == "3600"
    assert heard.headers["x-fal-request-timeout"] == "3600"


async def test_without_a_webhook_the_query_is_empty(open_queue: OpenQueue) -> None:
    async with serving(accepted()) as server:
        await open_queue(server.url).submit(KLING, {}, start_seconds=60)
    assert server.heard[0].line == f"POST /{KLING} HTTP/1.1"


async def test_no_two_submits_share_a_connection(open_queue: OpenQueue) -> None:
    async with serving(accepted()) as server:
        queue = open_queue(server.url)
        for _ in range(3):
            assert isinstance(await queue.submit(KLING, {}, start_seconds=60), Accepted)
        await asyncio.gather(*(queue.submit(KLING, {}, start_seconds=60) for _ in range(5)))
    assert server.connections == len(server.heard) == 8


def expected(code: int, body: object) -> type[SubmitOutcome]:
    """DESIGN.md, section 3, as a table."""
    if code == 200 and isinstance(body, dict) and "request_id" in body:
        return Accepted
    in_fals_shape = isinstance(body, dict) and isinstance(body.get("detail"), str | list)
    if code in {400, 413, 422} and in_fals_shape:
        return Refused
    if code == 404 and in_fals_shape and str(body).startswith("{'detail': 'Path"):
        return Refused
    if 400 <= code <= 499 and code != 408:
        return RefusedUs
    return Unknown


BODIES = {
    "text": {"detail": "no"},
    "list": DETAIL_LIST,
    "path": {"detail": "Path /v9/text-to-video not found"},
    "no-detail": {"error": "no"},
    "null-detail": {"detail": None},
    "html": b"<html><body>413 nginx</body></html>",
    "empty": b"",
    "id": {"request_id": REQUEST_ID},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_every_code_from_200_to_599_is_read_by_the_table(body: object) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    for code in range(200, 600):
        outcome = read_submit(Reply(code, {}, raw), endpoint=KLING, queue_url=FalUrl("https://queue.fal.run"))
        assert type(outcome) is expected(code, body), (code, outcome)


@pytest.mark.parametrize("shape", ["list", "html"])
async def test_every_code_comes_through_the_wire(shape: str, open_queue: OpenQueue) -> None:
    async with serving(Act()) as server:
        queue = open_queue(server.url)
        for code in range(200, 600):
            server.act = replace(answer(code, BODIES[shape]), then="close")
            outcome = await queue.submit(KLING, {}, start_seconds=60)
            assert type(outcome) is expected(code, BODIES[shape]), (code, outcome)


@pytest.mark.parametrize("code", [102, 101, 600, 999])
async def test_codes_outside_http_are_unknown(code: int, open_queue: OpenQueue) -> None:
    assert isinstance(await submit_to(replace(answer(code, {}), then="close"), open_queue), Unknown)


async def test_an_early_hint_before_the_answer_does_no_harm(open_queue: OpenQueue) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    outcome = await submit_to(Act(hint + accepted().say), open_queue)
    assert isinstance(outcome, Accepted)


@pytest.mark.parametrize(
    "request_id",
    [
        None,
        7,
        "",
        " ",
        "a b",
        "a/b",
        "../x",
        "..",
        ".",
        "a?b",
        "a#b",
        "a%2fb",
        "a\nb",
        "a\\b",
        "x" * 129,
        "ü",
        ["a"],
    ],
)
async def test_a_200_without_a_usable_request_id_is_unknown(request_id: object, open_queue: OpenQueue) -> None:
    outcome = await submit_to(answer(200, {"request_id": request_id}), open_queue)
    assert isinstance(outcome, Unknown)
    assert outcome.code == 200


async def test_a_refusal_carries_fals_words_without_the_echoed_input(open_queue: OpenQueue) -> None:
    image = "data:image/png;base64," + "A" * 2_000_000
    body = {
        "detail": [
            {
                "loc": ["body", "image_url"],
                "msg": "too small",
                "type": "image_too_small",
                "input": {"image_url": image},
            },
            {
                "loc": ["body", "n", 0],
                "msg": "x" * 5000,
                "type": "less_than",
                "ctx": {"limit_value": 5, "input": image},
            },
        ]
    }
    outcome = await submit_to(answer(422, body, headers={"X-Fal-Retryable": "false"}), open_queue)
    assert isinstance(outcome, Refused)
    error = outcome.error
    assert (error.code, error.type, error.title, error.retryable) == (
        422,
        "image_too_small",
        "Image too small",
        False,
    )
    assert error.detail.startswith("image_url: too small; n.0: xxx")
    assert len(error.detail) <= 1000
    assert "base64" not in repr(error)
    assert len(repr(error.body)) < 16_000


async def test_what_is_refused_to_us_says_why_and_when(open_queue: OpenQueue) -> None:
    locked = {"detail": f"User is locked. Reason: Exhausted balance. Key {FAL_KEY}"}
    outcome = await submit_to(answer(403, locked, headers={"Retry-After": "17"}), open_queue)
    assert isinstance(outcome, RefusedUs)
    assert outcome.retry_after_seconds == 17
    assert "User is locked" in outcome.reason
    assert "c4n4ry" not in repr(outcome)


@pytest.mark.parametrize("retry_after", ["", "soon", "-1", "1.5", "99999999", "Wed, 21 Oct 2026 07:28:00 GMT"])
async def test_an_odd_retry_after_is_none(retry_after: str, open_queue: OpenQueue) -> None:
    outcome = await submit_to(answer(429, {"detail": "x"}, headers={"Retry-After": retry_after}), open_queue)
    assert isinstance(outcome, RefusedUs)
    assert outcome.retry_after_seconds is None


async def test_a_lost_answer_that_named_a_request_id_tells_the_operator(open_queue: OpenQueue) -> None:
    outcome = await submit_to(answer(502, b"<html>", headers={"x-fal-request-id": REQUEST_ID}), open_queue)
    assert isinstance(outcome, Unknown)
    assert REQUEST_ID in outcome.reason


@pytest.mark.parametrize("endpoint", ["", "one", "a//b", "../x", "a/b?c", "a/ b", "/a/b", "workflows/a", "https://x/y"])
async def test_an_impossible_endpoint_is_the_callers_mistake(endpoint: str, open_queue: OpenQueue) -> None:
    async with serving(accepted()) as server:
        with pytest.raises(ValueError, match="cannot be the id"):
            await open_queue(server.url).submit(endpoint, {}, start_seconds=60)
    assert server.connections == 0


async def test_a_submit_that_comes_too_late_is_not_sent(open_queue: OpenQueue) -> None:
    async with serving(accepted()) as server:
        outcome = await open_queue(server.url).submit(KLING, {}, start_seconds=60, send_by=0)
    assert isinstance(outcome, NotSent)
    assert server.heard == []
