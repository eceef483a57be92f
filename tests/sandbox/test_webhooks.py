"""What fal tells by itself: webhooks signed, tried again, and gone wrong on request."""

import base64
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.sandbox import webhooks
from app.sandbox.box import Box, Settings
from app.sandbox.outbox import RETRY_WAITS_SECONDS, Webhook

from .receiving import Received, Receiver, is_genuine, run_receiver
from .running import TEXT, Sandbox, run_sandbox


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with run_receiver() as receiver:
        yield receiver


def start(sandbox: Sandbox, receiver: Receiver, prompt: str = "a cat", **headers: str) -> str:
    return start_for(sandbox, receiver.url, prompt, **headers)


def start_for(sandbox: Sandbox, url: str, prompt: str = "a cat", **headers: str) -> str:
    answer = sandbox.http.post(f"/{TEXT}", params={"fal_webhook": url}, json={"prompt": prompt}, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


def order(sandbox: Sandbox, **habits: Any) -> None:
    answer = sandbox.http.post("/_sandbox/webhooks", json=habits)
    assert answer.status_code == 200, answer.text


def jwks(sandbox: Sandbox) -> dict[str, Any]:
    return dict(sandbox.http.get("/.well-known/jwks.json", headers={"authorization": ""}).json())


def genuine(sandbox: Sandbox, told: Received) -> bool:
    return is_genuine(jwks(sandbox), told.headers, told.raw)


def wait_for_state(sandbox: Sandbox, request_id: str, state: str, tries: int) -> list[dict[str, Any]]:
    """Wait until its webhook stands so; return its tries."""
    for _ in range(5000):
        told = sandbox.http.get("/_sandbox/webhooks", params={"request_id": request_id}).json()
        (webhook,) = told["webhooks"]
        if (webhook["state"], webhook["tries"]) == (state, tries):
            return list(told["tries"])
        time.sleep(0.002)
    raise AssertionError(f"{webhook}")


def test_a_webhook_is_signed_as_fal_documents(sandbox: Sandbox, receiver: Receiver) -> None:
    request_id = start(sandbox, receiver)
    (told,) = receiver.wait()
    (key,) = jwks(sandbox)["keys"]
    assert len(key["x"]) == 43
    assert len(base64.urlsafe_b64decode(key["x"] + "=")) == 32
    assert told.headers["x-fal-webhook-request-id"] == request_id
    assert told.headers["x-fal-webhook-user-id"] == "sandbox-user"
    assert genuine(sandbox, told)
    assert not is_genuine(jwks(sandbox), told.headers, told.raw + b" ")
    assert not is_genuine(jwks(sandbox), told.headers | {"x-fal-webhook-user-id": "other"}, told.raw)
    payload = sandbox.call(request_id).json()
    assert told.content == {
        "request_id": request_id,
        "gateway_request_id": request_id,
        "status": "OK",
        "payload": payload,
    }
    tries = wait_for_state(sandbox, request_id, "delivered", 1)
    assert [(each["number"], each["status_code"]) for each in tries] == [(1, 200)]


@pytest.mark.parametrize(
    ("prompt", "code"),
    [("[refuse]", 422), ("[500]", 500), ("[runner-lost]", 503), ("x" * 2501, 422), ("[refuse-quietly]", 422)],
)
def test_a_failure_is_told_with_the_models_own_body(
    sandbox: Sandbox, receiver: Receiver, prompt: str, code: int
) -> None:
    request_id = start(sandbox, receiver, prompt)
    (told,) = receiver.wait()
    assert told.content["status"] == "ERROR"
    assert told.content["error"] == f"Invalid status code: {code}"
    assert told.content["payload"] == sandbox.call(request_id).json()
    assert genuine(sandbox, told)


@pytest.mark.parametrize("prompt", ["[never-starts]", "[hang]"])
def test_a_cancelled_request_is_told(sandbox: Sandbox, receiver: Receiver, prompt: str) -> None:
    request_id = start(sandbox, receiver, prompt)
    sandbox.set_clock(advance=10)
    assert sandbox.call(request_id, "/cancel", "PUT").status_code in {200, 202}
    (told,) = receiver.wait()
    assert told.content["error"] == "Invalid status code: 499"
    assert told.content["payload"]["error_type"] == "client_cancelled"


@pytest.mark.parametrize("header", ["x-fal-request-start-timeout", "x-fal-request-timeout"])
def test_a_request_given_up_by_its_start_deadline_is_told(sandbox: Sandbox, receiver: Receiver, header: str) -> None:
    start(sandbox, receiver, "[never-starts]", **{header: "5"})
    (told,) = receiver.wait()
    assert told.content["error"] == "Invalid status code: 504"
    assert told.content["payload"]["error_type"] == "request_timeout"


def test_a_request_moved_to_its_end_by_hand_is_told(sandbox: Sandbox, receiver: Receiver) -> None:
    request_id = start(sandbox, receiver, "[never-starts]")
    sandbox.move(request_id, "COMPLETED")
    (told,) = receiver.wait()
    assert told.content["status"] == "OK"


def test_who_waits_for_room_is_told_when_it_has_had_it(limited: Sandbox, receiver: Receiver) -> None:
    last = start(limited, receiver)
    receiver.wait()  # now the sender sleeps until something changes
    jobs = [last, *(start(limited, receiver) for _ in range(7))]
    assert sorted(told.request_id for told in receiver.wait(8)) == sorted(jobs)


def test_nothing_is_told_before_the_end_and_nothing_twice(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_clock(speed=0)
    request_id = start(sandbox, receiver)
    sandbox.set_clock(advance=3.9)
    wait_for_state(sandbox, request_id, "waiting", 0)
    sandbox.set_clock(advance=0.2)
    receiver.wait()
    sandbox.set_clock(advance=1e5)
    wait_for_state(sandbox, request_id, "delivered", 1)
    assert len(receiver.received) == 1


def test_a_request_that_the_queue_tried_again_has_another_gateway_id(sandbox: Sandbox, receiver: Receiver) -> None:
    request_id = start(sandbox, receiver, "[requeue]")
    (told,) = receiver.wait()
    assert told.request_id == told.headers["x-fal-webhook-request-id"] == request_id
    assert told.content["gateway_request_id"] != request_id


def test_a_500_is_tried_again_later_and_signed_anew(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_clock(speed=0)
    receiver.codes = [500, 404, 204]
    request_id = start(sandbox, receiver)
    sandbox.set_clock(advance=4)
    for number, wait in enumerate(RETRY_WAITS_SECONDS[:2], start=1):
        wait_for_state(sandbox, request_id, "waiting", number)
        sandbox.set_clock(advance=wait - 0.5)
        wait_for_state(sandbox, request_id, "waiting", number)
        sandbox.set_clock(advance=1)
    tries = wait_for_state(sandbox, request_id, "delivered", 3)
    assert [each["status_code"] for each in tries] == [500, 404, 204]
    assert len({told.raw for told in receiver.received}) == 1
    assert all(genuine(sandbox, told) for told in receiver.received)


def test_a_refused_connection_is_tried_again(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    request_id = start_for(sandbox, f"http://127.0.0.1:{port}/told")
    tries: list[dict[str, Any]] = []
    while len(tries) < 2:
        tries = sandbox.http.get("/_sandbox/webhooks", params={"request_id": request_id}).json()["tries"]
    assert [(each["status_code"], each["error"]) for each in tries[:2]] == [(None, "ConnectError")] * 2


async def test_whoever_resets_a_connection_before_it_is_used_harms_nobody() -> None:
    """Under uvloop anyio says so in its own way."""

    def reset(_: httpx.Request) -> httpx.Response:
        raise AttributeError("'NoneType' object has no attribute 'getpeername'")

    box = Box(Settings())
    job = box.accept(TEXT, {"prompt": "a cat"}, origin="", key_fingerprint="", headers={}, deadline=60)
    async with httpx.AsyncClient(transport=httpx.MockTransport(reset)) as client:
        assert await webhooks._post(box, client, Webhook(job, "http://receiver.test/")) is None
    assert [each.error for each in box.outbox.tries] == ["ConnectError"]


def test_after_ten_retries_it_is_given_up(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_clock(speed=100_000)
    receiver.codes = [503] * 20
    request_id = start(sandbox, receiver)
    assert len(wait_for_state(sandbox, request_id, "failed", 11)) == 11
    assert len(receiver.received) == 11


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_a_failure_for_good(sandbox: Sandbox, receiver: Receiver, code: int) -> None:
    receiver.codes = [code]
    request_id = start(sandbox, receiver)
    wait_for_state(sandbox, request_id, "failed", 1)
    sandbox.set_clock(advance=1e5)
    wait_for_state(sandbox, request_id, "failed", 1)
    assert len(receiver.received) == 1


def test_who_does_not_answer_in_time_is_tried_again(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_clock(speed=0)
    order(sandbox, timeout_seconds=0.05)
    receiver.codes = [0]
    request_id = start(sandbox, receiver)
    sandbox.set_clock(advance=4)
    wait_for_state(sandbox, request_id, "waiting", 1)
    order(sandbox, timeout_seconds=15)
    sandbox.set_clock(advance=10)
    tries = wait_for_state(sandbox, request_id, "delivered", 2)
    assert [each["error"] for each in tries] == ["TimeoutError", None]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "told", "http://[", "http://\x00/"])
def test_a_url_that_cannot_be_called_harms_nobody(sandbox: Sandbox, receiver: Receiver, url: str) -> None:
    request_id = start_for(sandbox, url)
    wait_for_state(sandbox, start(sandbox, receiver), "delivered", 1)
    assert sandbox.http.get("/_sandbox/webhooks", params={"request_id": request_id}).json()["webhooks"]


def test_webhooks_can_be_off_or_dropped(sandbox: Sandbox, receiver: Receiver) -> None:
    order(sandbox, enabled=False)
    wait_for_state(sandbox, start(sandbox, receiver), "dropped", 0)
    order(sandbox, enabled=True, drop=1)
    wait_for_state(sandbox, start(sandbox, receiver), "dropped", 0)
    wait_for_state(sandbox, start(sandbox, receiver, "[no-webhook]"), "dropped", 0)
    told = start(sandbox, receiver)
    wait_for_state(sandbox, told, "delivered", 1)
    assert [each.request_id for each in receiver.received] == [told]


def test_webhooks_can_be_late(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_clock(speed=0)
    order(sandbox, delay_seconds=60)
    request_id = start(sandbox, receiver)
    sandbox.set_clock(advance=63)
    wait_for_state(sandbox, request_id, "waiting", 0)
    sandbox.set_clock(advance=2)
    wait_for_state(sandbox, request_id, "delivered", 1)


def test_webhooks_can_come_several_times(sandbox: Sandbox, receiver: Receiver) -> None:
    order(sandbox, copies=10)
    request_id = start(sandbox, receiver)
    tries = wait_for_state(sandbox, request_id, "delivered", 1)
    assert [each["status_code"] for each in tries] == [200] * 10
    assert len({told.raw for told in receiver.wait(10)}) == 1


def test_webhooks_can_come_in_the_wrong_order(sandbox: Sandbox, receiver: Receiver) -> None:
    order(sandbox, reverse=3)
    sandbox.set_clock(speed=0)
    jobs = []
    for _ in range(3):
        assert receiver.received == []
        jobs.append(start(sandbox, receiver))
        sandbox.set_clock(advance=5)
    assert [told.request_id for told in receiver.wait(3)] == jobs[::-1]


def test_what_is_held_back_is_released_when_order_returns(sandbox: Sandbox, receiver: Receiver) -> None:
    order(sandbox, reverse=3)
    request_id = start(sandbox, receiver)
    wait_for_state(sandbox, request_id, "sending", 0)
    order(sandbox, reverse=0)
    assert [told.request_id for told in receiver.wait()] == [request_id]


@pytest.mark.parametrize("prompt", ["a cat", "[bare-webhook]"])
def test_a_success_can_be_told_without_its_payload(sandbox: Sandbox, receiver: Receiver, prompt: str) -> None:
    order(sandbox, payload=prompt != "a cat")
    request_id = start(sandbox, receiver, prompt)
    (told,) = receiver.wait()
    assert (told.content["status"], told.content["payload"]) == ("OK", None)
    assert told.content["payload_error"]
    assert sandbox.call(request_id).status_code == 200


def test_another_account_signs_with_the_same_keys(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.http.post("/_sandbox/account", json={"user_id": "somebody-else"})
    start(sandbox, receiver)
    (told,) = receiver.wait()
    assert told.headers["x-fal-webhook-user-id"] == "somebody-else"
    assert genuine(sandbox, told)


def test_anything_can_be_signed_by_fal_on_request(sandbox: Sandbox) -> None:
    order = {"body": '{"request_id": "x"}', "request_id": "x", "user_id": "mallory"}
    headers = sandbox.http.post("/_sandbox/sign", json=order).json()["headers"]
    assert headers["x-fal-webhook-user-id"] == "mallory"
    assert is_genuine(jwks(sandbox), headers, order["body"].encode())
    old = sandbox.http.post("/_sandbox/sign", json={**order, "timestamp": int(time.time()) - 301}).json()["headers"]
    assert not is_genuine(jwks(sandbox), old, order["body"].encode())


@pytest.mark.parametrize("keep", [True, False])
def test_the_keys_can_be_rotated(sandbox: Sandbox, receiver: Receiver, keep: bool) -> None:  # noqa: FBT001
    start(sandbox, receiver)
    receiver.wait()
    published = sandbox.http.post("/_sandbox/keys", json={"keep": keep}).json()
    assert published == jwks(sandbox)
    start(sandbox, receiver)
    before, after = receiver.wait(2)
    assert genuine(sandbox, before) == keep
    assert genuine(sandbox, after)


def test_the_key_set_can_be_away(sandbox: Sandbox) -> None:
    sandbox.set_fault(call="jwks", fault="502-html", times=1)
    assert sandbox.http.get("/.well-known/jwks.json").status_code == 502
    assert sandbox.http.get("/.well-known/jwks.json").status_code == 200
    assert sandbox.http.get("/_sandbox/state").json()["calls"] == {"jwks": 2}


def test_a_webhook_can_come_before_the_answer_to_the_submit(sandbox: Sandbox, receiver: Receiver) -> None:
    request_id = start(sandbox, receiver, "[late-answer]")
    assert [told.request_id for told in receiver.received] == [request_id]
    assert sandbox.call(request_id).status_code == 200
    assert sandbox.submit("[late-answer]").status_code == 200


def test_a_slow_answer_can_be_to_a_submit_carried_out_at_once(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_fault(call="submit", fault="slow", accepted=True, seconds=3600, times=1)
    with pytest.raises(httpx.ReadTimeout):
        sandbox.http.post(f"/{TEXT}", params={"fal_webhook": receiver.url}, json={"prompt": "a cat"}, timeout=0.1)
    (told,) = receiver.wait()
    assert [job["request_id"] for job in sandbox.requests()] == [told.request_id]


def test_every_one_of_many_is_told_once(sandbox: Sandbox, receiver: Receiver) -> None:
    jobs = {start(sandbox, receiver) for _ in range(50)}
    receiver.wait(50)
    assert {told.request_id for told in receiver.received} == jobs
    assert len(receiver.received) == 50


def test_what_was_forgotten_is_not_told(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_clock(speed=0)
    start(sandbox, receiver)
    sandbox.http.delete("/_sandbox/requests")
    sandbox.set_clock(advance=10)
    request_id = start(sandbox, receiver)
    sandbox.set_clock(advance=10)
    assert [told.request_id for told in receiver.wait()] == [request_id]


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("webhooks", {"copys": 2}),
        ("webhooks", {"copies": 0}),
        ("webhooks", {"drop": -1}),
        ("webhooks", {"drop": 1.5}),
        ("webhooks", {"enabled": "yes"}),
        ("webhooks", {"delay_seconds": "long"}),
        ("webhooks", [1]),
        ("sign", {"body": "x"}),
        ("account", {"balance_usd": 1.5}),
        ("account", {"balance_usd": "NaN"}),
        ("list", {"lag_seconds": -1}),
        ("list", {}),
    ],
)
def test_a_mistaken_order_is_refused(sandbox: Sandbox, path: str, order: Any) -> None:
    answer = sandbox.http.post(f"/_sandbox/{path}", json=order)
    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_it_ends_while_a_webhook_is_on_its_way(receiver: Receiver) -> None:
    receiver.codes = [0]
    with run_sandbox("--speed", "1000") as (sandbox, process):
        start(sandbox, receiver)
        receiver.wait()
        process.terminate()
        assert process.wait(10) == -15


def test_what_was_forgotten_on_its_way_is_not_tried_again(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.set_clock(speed=0)
    order(sandbox, timeout_seconds=0.2)
    receiver.codes = [0]
    forgotten = start(sandbox, receiver)
    sandbox.set_clock(advance=4)
    receiver.wait()
    sandbox.http.delete("/_sandbox/requests")
    while not sandbox.http.get("/_sandbox/webhooks").json()["tries"]:
        time.sleep(0.002)
    sandbox.set_clock(advance=100)
    order(sandbox, timeout_seconds=15)
    known = start(sandbox, receiver)
    sandbox.set_clock(advance=10)
    assert [told.request_id for told in receiver.wait(2)] == [forgotten, known]
