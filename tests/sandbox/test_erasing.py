"""Erasing a request's payloads at the sandbox, as fal does it on demand (FAL.md 6)."""

import pytest

from .running import TEXT, Sandbox

CANARY = "a canary in a coal mine"


def path_of(request_id: str) -> str:
    return f"/v1/models/requests/{request_id}/payloads"


def made(sandbox: Sandbox, prompt: str = CANARY) -> str:
    request_id = sandbox.start(prompt)
    sandbox.wait(request_id)
    return request_id


def test_neither_input_nor_output_is_there_afterwards_and_the_bill_stays(sandbox: Sandbox) -> None:
    request_id = made(sandbox)
    url = sandbox.call(request_id).json()["video"]["url"]
    (before,) = sandbox.requests(request_id=request_id)
    assert (before["erased"], before["input"]["prompt"]) == (False, CANARY)
    assert sandbox.http.head(url).status_code == 200
    answer = sandbox.http.delete(path_of(request_id))
    assert (answer.status_code, answer.json()) == (200, {"cdn_delete_results": [{"link": url, "exception": None}]})
    (after,) = sandbox.requests(request_id=request_id)
    assert after | {"erased": False, "input": before["input"], "calls": before["calls"]} == before
    assert (after["erased"], after["input"], after["billed_units"]) == (True, None, "5")
    assert sandbox.http.get(url).status_code == 404
    assert sandbox.call(request_id).status_code == 404
    assert sandbox.call(request_id, "/status").json()["status"] == "COMPLETED"
    query = {"endpoint_id": TEXT, "request_id": request_id, "expand": "payloads"}
    (item,) = sandbox.http.get("/v1/models/requests/by-endpoint", params=query).json()["items"]
    assert (item["json_input"], item["json_output"], item["status_code"]) == (None, None, 200)
    again = sandbox.http.delete(path_of(request_id))
    assert (again.status_code, again.json()) == (200, {"cdn_delete_results": []})


def test_what_is_not_known_not_ended_or_without_a_key_is_refused_in_the_platforms_shape(sandbox: Sandbox) -> None:
    absent = sandbox.http.delete(path_of("no-such-request"))
    assert (absent.status_code, absent.json()["error"]["type"]) == (404, "not_found")
    running = sandbox.start("[hang]")
    early = sandbox.http.delete(path_of(running))
    assert (early.status_code, early.json()["error"]["type"]) == (409, "validation_error")
    ended = made(sandbox)
    for key in ("", "Key sandbox-unknown:x"):
        refused = sandbox.http.delete(path_of(ended), headers={"authorization": key})
        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authorization_error")
    assert [request["erased"] for request in sandbox.requests()] == [False, False]


@pytest.mark.parametrize("accepted", [False, True])
def test_it_goes_wrong_as_scripted(sandbox: Sandbox, *, accepted: bool) -> None:
    request_id = made(sandbox)
    sandbox.set_fault(call="erase", fault="503", times=1, accepted=accepted, prompt="canary")
    answer = sandbox.http.delete(path_of(request_id))
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "server_error")
    assert [request["erased"] for request in sandbox.requests()] == [accepted]
    assert sandbox.http.delete(path_of(request_id)).status_code == 200
    assert sandbox.http.get("/_sandbox/state").json()["calls"]["erase"] == 2
