"""The control surface: what came, what shall go wrong, how fast."""

import hashlib
from typing import Any

import httpx
import pytest

from app.sandbox.faults import FAULTS

from .running import TEXT, Sandbox

NOT_ANSWERED = {"close", "reset", "hang", "cut"}


def test_it_tells_what_came_without_the_key(sandbox: Sandbox) -> None:
    answer = sandbox.submit("a cat", headers={"x-fal-request-start-timeout": "3600", "x-fal-tags": "a=b"})
    request_id = answer.json()["request_id"]
    sandbox.move(request_id, "COMPLETED")
    sandbox.call(request_id, "/status")
    sandbox.call(request_id)
    sandbox.call(request_id)
    (job,) = sandbox.requests()
    assert job["endpoint"] == TEXT
    assert job["input"] == {"prompt": "a cat"}
    assert job["headers"]["x-fal-request-start-timeout"] == "3600"
    assert job["headers"]["x-fal-tags"] == "a=b"
    assert job["key_fingerprint"] == hashlib.sha256(b"test-id:test-secret").hexdigest()[:12]
    assert (job["status"], job["result_status"], job["billable_units"]) == ("COMPLETED", 200, "5")
    assert job["calls"] == {"status": 1, "stream": 0, "result": 2, "cancel": 0}
    assert "test-secret" not in str(job)


def test_requests_can_be_asked_for_by_prompt_and_id(sandbox: Sandbox) -> None:
    first, second = sandbox.start("one cat"), sandbox.start("two dogs")
    assert [job["request_id"] for job in sandbox.requests(prompt="dog")] == [second]
    assert [job["request_id"] for job in sandbox.requests(request_id=first)] == [first]


def test_it_counts_calls_and_states(sandbox: Sandbox) -> None:
    sandbox.start("[hang]")
    sandbox.submit("[busy]")
    state = sandbox.http.get("/_sandbox/state").json()
    assert state["accepted"] == 1
    assert state["calls"] == {"submit": 2}
    assert sum(state["statuses"].values()) == 1


@pytest.mark.parametrize("name", sorted(FAULTS.keys() - NOT_ANSWERED - {"slow"}))
@pytest.mark.parametrize("accepted", [False, True])
def test_a_fault_spoils_one_submit(sandbox: Sandbox, name: str, accepted: bool) -> None:  # noqa: FBT001
    sandbox.set_fault(call="submit", fault=name, times=1, accepted=accepted)
    answer = sandbox.submit("a cat")
    code, _, _ = name.partition("-")
    assert answer.status_code == (int(code) if code.isdigit() else 200)
    assert len(sandbox.requests()) == int(accepted)
    if name in ("empty", "truncated"):
        with pytest.raises(ValueError, match=r"."):
            answer.json()
    assert sandbox.submit("a cat").status_code == 200


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("close", httpx.RemoteProtocolError),
        ("cut", httpx.RemoteProtocolError),
        ("reset", httpx.ReadError),
        ("hang", httpx.ReadTimeout),
    ],
)
@pytest.mark.parametrize("kind", ["status", "result", "cancel"])
def test_a_broken_connection_is_no_answer(sandbox: Sandbox, name: str, error: type[Exception], kind: str) -> None:
    request_id = sandbox.start("[never-starts]")
    sandbox.set_fault(call=kind, fault=name, times=1)
    tail, method = {"status": ("/status", "GET"), "result": ("", "GET"), "cancel": ("/cancel", "PUT")}[kind]
    url = f"/fal-ai/kling-video/requests/{request_id}{tail}"
    with pytest.raises(error):
        sandbox.http.request(method, url, timeout=0.3 if name == "hang" else 10)
    assert sandbox.call(request_id, "/status").json()["status"] == "IN_QUEUE"
    assert sandbox.call(request_id, tail, method).status_code in {200, 202, 400}


def test_a_cancel_can_be_carried_out_and_its_answer_lost(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[never-starts]")
    sandbox.set_fault(call="cancel", fault="502-html", times=1, accepted=True)
    assert sandbox.call(request_id, "/cancel", "PUT").status_code == 502
    assert sandbox.call(request_id, "/cancel", "PUT").json() == {"status": "ALREADY_COMPLETED"}


def test_the_whole_fal_is_away_until_cleared(sandbox: Sandbox) -> None:
    request_id = sandbox.start("a cat")
    sandbox.set_fault(fault="503")
    answers = [sandbox.submit("a cat"), sandbox.call(request_id, "/status"), sandbox.call(request_id)]
    assert [answer.status_code for answer in answers] == [503] * 3
    sandbox.http.delete("/_sandbox/faults")
    assert sandbox.submit("a cat").status_code == 200


def test_a_fault_can_be_meant_for_one_prompt(sandbox: Sandbox) -> None:
    sandbox.set_fault(call="submit", fault="429", prompt="dog")
    assert sandbox.submit("a cat").status_code == 200
    assert sandbox.submit("a dog").status_code == 429


def test_a_slow_call_is_answered_right(sandbox: Sandbox) -> None:
    sandbox.set_fault(call="any", fault="slow", seconds=0.01, times=2)
    request_id = sandbox.start("a cat")
    assert sandbox.call(request_id, "/status").status_code in {200, 202}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("faults", {"fault": "unheard-of"}),
        ("faults", {"fault": "429", "call": "dance"}),
        ("faults", {"fault": "429", "times": 0}),
        ("faults", {"fault": "429", "tims": 1}),
        ("faults", ["429"]),
        ("speed", {"speed": -1}),
        ("speed", {"advance": "far"}),
        ("speed", 10),
    ],
)
def test_a_mistaken_order_is_refused(sandbox: Sandbox, path: str, body: Any) -> None:
    answer = sandbox.http.post(f"/_sandbox/{path}", json=body)
    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_an_unknown_control_call_names_the_known(sandbox: Sandbox) -> None:
    assert sandbox.http.get("/_sandbox/dance").status_code == 404


def test_it_explains_itself(sandbox: Sandbox) -> None:
    told = sandbox.http.get("/_sandbox/scripts").json()
    assert "refuse" in [script["word"] for script in told["scripts"]]
    assert set(told["faults"]) == set(FAULTS)
