"""Fal's word for each of our statuses, and what it says of ends that are the gateway's own."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from app.compat.ends import read_end
from app.embedded import EmbeddedPostgres
from app.fal import Failed, InProgress, Queued, told_outcome
from app.jobs.at_fal.replies import failure_reply
from app.jobs.ends import causes
from tests.conftest import settings_for
from tests.jobs.hand import Hand, by_hand

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALIAS = "fal-ai/kling-video"
ALWAYS = {"status", "request_id", "response_url", "status_url", "cancel_url"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def hand(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Hand]:
    postgres.create_database("compat_standing", template)
    async with by_hand(settings_for(postgres.dsn("compat_standing"), PUBLIC_URL="https://videos.example.com")) as made:
        yield made


async def ask(hand: Hand, job_id: str, tail: str = "", method: str = "GET") -> httpx.Response:
    url = f"/fal/{ALIAS}/requests/{job_id}{tail}"
    return await hand.gateway.client.request(method, url, headers=hand.person.headers)


Standing = tuple[int, str, dict[str, Any]]


async def standing(hand: Hand, job_id: str) -> Standing:
    """Code and word of the status, and what stands beside what is always there."""
    answer = await ask(hand, job_id, "/status")
    body = answer.json()
    url = f"https://videos.example.com/fal/{ALIAS}/requests/{job_id}"
    assert [body[name] for name in ("response_url", "status_url", "cancel_url")] == [
        url,
        f"{url}/status",
        f"{url}/cancel",
    ]
    return answer.status_code, body["status"], {name: body[name] for name in body if name not in ALWAYS}


async def test_each_status_has_its_word_and_its_keys(hand: Hand) -> None:
    job_id = await hand.submit()
    in_queue: Standing = (202, "IN_QUEUE", {"queue_position": 0})
    running: Standing = (202, "IN_PROGRESS", {"logs": None})
    assert await standing(hand, job_id) == in_queue
    await hand.sql("UPDATE jobs SET queue_position = 7 WHERE id = $1", job_id[4:])
    assert await standing(hand, job_id) == (202, "IN_QUEUE", {"queue_position": 7})
    during: list[Any] = []

    async def look() -> None:
        during.append((await hand.status(job_id), await standing(hand, job_id)))

    hand.fal.during["submit"] = look
    await hand.send()
    del hand.fal.during["submit"]
    assert during == [("submitting", in_queue)]
    hand.fal.answer("status", Queued(3), InProgress(), Queued(None))
    for told in ((202, "IN_QUEUE", {"queue_position": 3}), running, in_queue):
        await hand.check()
        assert await standing(hand, job_id) == told
    await hand.check()
    await hand.sql("UPDATE jobs SET status = 'unconfirmed' WHERE id = $1", job_id[4:])
    assert await standing(hand, job_id) == running
    assert await hand.resolve(job_id, outcome="void") == 200
    code, word, beside = await standing(hand, job_id)
    assert (code, word) == (200, "COMPLETED")
    assert beside.keys() == {"logs", "metrics", "error", "error_type"}
    assert (beside["logs"], beside["metrics"]) == (None, {"inference_time": None})


async def test_what_nobody_knows_of_has_not_started(hand: Hand) -> None:
    job_id = await hand.lose()
    assert await standing(hand, job_id) == (202, "IN_QUEUE", {"queue_position": 0})
    assert (await ask(hand, job_id)).status_code == 400
    assert await hand.resolve(job_id, outcome="void") == 200
    answer = await ask(hand, job_id)
    assert (answer.status_code, answer.json()["error_type"]) == (500, "internal_error")


async def test_what_was_never_sent_is_cancelled_as_in_fals_queue(hand: Hand) -> None:
    job_id = await hand.submit()
    answer = await ask(hand, job_id, "/cancel", "PUT")
    assert (answer.status_code, answer.json()) == (200, {"status": "OK"})
    assert answer.headers["x-fal-request-id"] == job_id
    answer = await ask(hand, job_id)
    assert (answer.status_code, answer.headers["x-fal-error-type"]) == (499, "client_cancelled")
    assert answer.headers["x-fal-billable-units"] == "0"
    again = await ask(hand, job_id, "/cancel", "PUT")
    assert (again.status_code, again.json()["status"]) == (400, "ALREADY_COMPLETED")
    assert (await hand.job(job_id))["status"] == "canceled"


async def test_what_was_erased_is_not_found(hand: Hand) -> None:
    job_id = await hand.submit()
    await hand.cancel(job_id)
    await hand.sql("UPDATE jobs SET status = 'succeeded', error = NULL WHERE id = $1", job_id[4:])
    answer = await ask(hand, job_id)
    assert (answer.status_code, answer.json()["status"]) == (404, "NOT_FOUND")


UNTOLD: list[tuple[str, int, str, str | None]] = [
    (causes.error_json(code="queue-timeout", title="x", detail="x"), 504, "request_timeout", "user"),
    (
        causes.error_json(code="deadline-exceeded", title="x", detail="x", fal_status=499),
        504,
        "request_timeout",
        "user",
    ),
    (causes.error_json(code="unsendable", title="x", detail="x"), 500, "internal_error", None),
    (causes.error_json(code="unconfirmed", title="x", detail="x"), 500, "internal_error", None),
    (causes.error_json(code="canceled", title="x", detail="x", fal_status=499), 499, "client_cancelled", None),
    (causes.error_json(code="y", title="x", detail="x", fal_status=422, fal_type="y"), 422, "y", None),
]


@pytest.mark.parametrize(("error", "code", "error_type", "timeout_type"), UNTOLD)
async def test_an_end_without_fals_words_has_some_that_no_client_repeats(
    error: str, code: int, error_type: str, timeout_type: str | None
) -> None:
    end = read_end(error, None)
    assert (end.code, end.error_type, end.body["error_type"]) == (code, error_type, error_type)
    assert end.headers.get("x-fal-error-type") == error_type
    assert end.headers.get("x-fal-request-timeout-type") == timeout_type
    assert end.body["detail"]
    assert end.body["message"] == "x"


async def test_what_a_webhook_told_is_told_as_fals_result_would() -> None:
    payload = {"detail": "Runner disconnected", "error_type": "runner_disconnected"}
    outcome = told_outcome(json.dumps({"status": "ERROR", "error": "Invalid status code: 503", "payload": payload}))
    assert isinstance(outcome, Failed)
    end = read_end(causes.fal_error_json(outcome.error), failure_reply(outcome.error))
    assert end.code == 503
    assert end.body == {**payload, "message": "Runner disconnected"}
    assert end.headers == {"x-fal-error-type": "runner_disconnected"}
    assert (end.error, end.error_type) == ("Runner disconnected", "runner_disconnected")
