"""fal's platform API: which requests have started, what is left of the balance; and the sandbox's own books."""

from datetime import datetime
from typing import Any

import httpx
import pytest

from .running import IMAGE, TEXT, Sandbox

LIST = "/v1/models/requests/by-endpoint"


def ask(sandbox: Sandbox, **query: Any) -> httpx.Response:
    return sandbox.http.get(LIST, params={"endpoint_id": TEXT, **query})


def listed(sandbox: Sandbox, **query: Any) -> list[dict[str, Any]]:
    answer = ask(sandbox, **query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def ids(sandbox: Sandbox, **query: Any) -> list[str]:
    return [item["request_id"] for item in listed(sandbox, **query)]


def set_lag(sandbox: Sandbox, seconds: float) -> None:
    assert sandbox.http.post("/_sandbox/list", json={"lag_seconds": seconds}).status_code == 200


def balance(sandbox: Sandbox) -> float:
    content = sandbox.http.get("/v1/account/billing", params={"expand": "credits"}).json()
    assert content["username"] == "sandbox"
    assert content["credits"]["currency"] == "USD"
    return float(content["credits"]["current_balance"])


def test_a_request_is_listed_once_it_has_started(sandbox: Sandbox) -> None:
    sandbox.set_clock(speed=0)
    request_id = sandbox.start("a cat")
    assert ids(sandbox) == []
    sandbox.set_clock(advance=1.5)
    (item,) = listed(sandbox)
    started = item.pop("started_at")
    sent = item.pop("sent_at")
    assert datetime.fromisoformat(sent) <= datetime.fromisoformat(started)
    assert item == {
        "request_id": request_id,
        "endpoint_id": TEXT,
        "ended_at": None,
        "status_code": None,
        "duration": None,
    }
    sandbox.set_clock(advance=3)
    (item,) = listed(sandbox)
    assert (item["started_at"], item["sent_at"], item["status_code"]) == (started, sent, 200)
    assert datetime.fromisoformat(item["ended_at"]) >= datetime.fromisoformat(started)
    assert item["duration"] >= 0


def test_what_never_started_is_never_listed(sandbox: Sandbox) -> None:
    given_up = sandbox.start("[never-starts]", headers={"x-fal-request-start-timeout": "2"})
    sandbox.start("[never-starts]")
    sandbox.set_clock(speed=0)
    cancelled = sandbox.start("a cat")
    sandbox.call(cancelled, "/cancel", "PUT")
    sandbox.set_clock(advance=10)
    sandbox.wait(given_up)
    assert ids(sandbox) == []


def test_what_was_cancelled_while_it_ran_is_listed(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[hang]")
    sandbox.move(request_id, "IN_PROGRESS")
    sandbox.call(request_id, "/cancel", "PUT")
    sandbox.wait(request_id)
    assert [(item["request_id"], item["status_code"]) for item in listed(sandbox)] == [(request_id, 499)]


def test_the_list_lags(sandbox: Sandbox) -> None:
    sandbox.set_clock(speed=0)
    set_lag(sandbox, 30)
    request_id = sandbox.start("a cat")  # starts after 1 s, ends after 4 s
    sandbox.set_clock(advance=30)
    assert ids(sandbox) == ids(sandbox, request_id=request_id) == []
    sandbox.set_clock(advance=2)
    assert [(item["request_id"], item["ended_at"]) for item in listed(sandbox)] == [(request_id, None)]
    assert sandbox.call(request_id).status_code == 200
    assert ids(sandbox, status="success") == []
    sandbox.set_clock(advance=2.5)
    assert [item["status_code"] for item in listed(sandbox)] == [200]


def test_the_list_pages_over_250_requests(sandbox: Sandbox) -> None:
    sandbox.set_clock(speed=0)
    jobs = []
    for number in range(250):
        jobs.append(sandbox.start(f"cat {number}"))
        if number % 3 == 0:
            sandbox.set_clock(advance=1)
    sandbox.set_clock(advance=2)
    pages = [ask(sandbox, limit=100).json()]
    while pages[-1]["has_more"]:
        # One that starts meanwhile shifts nothing.
        sandbox.move(sandbox.start("another"), "IN_PROGRESS")
        pages.append(ask(sandbox, limit=100, cursor=pages[-1]["next_cursor"]).json())
    assert [len(page["items"]) for page in pages] == [100, 100, 50]
    assert pages[-1]["next_cursor"] is None
    found = [item["request_id"] for page in pages for item in page["items"]]
    assert sorted(found) == sorted(jobs)
    started = [item["started_at"] for page in pages for item in page["items"]]
    assert started == sorted(started, reverse=True)
    assert len(ask(sandbox).json()["items"]) <= 100


def test_a_day_later_it_is_not_listed(sandbox: Sandbox) -> None:
    sandbox.set_clock(speed=0)
    sandbox.start("a cat")
    sandbox.set_clock(advance=24 * 3600)
    assert len(ids(sandbox)) == 1
    sandbox.set_clock(advance=2)
    assert ids(sandbox) == []


def test_the_list_can_be_filtered(sandbox: Sandbox) -> None:
    ends = {sandbox.start(prompt): prompt for prompt in ("a cat", "[refuse]", "[500]")}
    other = sandbox.start("a cat", endpoint=IMAGE, image_url="https://example.com/cat.png")
    sandbox.start("[unlisted]")
    for request_id in (*ends, other):
        sandbox.wait(request_id)
    found = {status: ids(sandbox, status=status) for status in ("success", "user_error", "error")}
    assert {status: [ends[each] for each in found[status]] for status in found} == {
        "success": ["a cat"],
        "user_error": ["[refuse]"],
        "error": ["[500]"],
    }
    assert ids(sandbox, endpoint_id=IMAGE) == [other]
    assert set(ids(sandbox, endpoint_id=f"{IMAGE},{TEXT}")) == set(ids(sandbox, endpoint_id=[IMAGE, TEXT]))
    assert len(ids(sandbox, endpoint_id=[IMAGE, TEXT])) == 4
    first = next(iter(ends))
    assert ids(sandbox, request_id=first) == [first]
    assert ids(sandbox, request_id=other) == []


def test_payloads_are_shown_whole_on_request(sandbox: Sandbox) -> None:
    image = "data:image/png;base64," + "A" * 5000
    request_id = sandbox.start("a cat", endpoint=IMAGE, image_url=image)
    sandbox.wait(request_id)
    (item,) = listed(sandbox, endpoint_id=IMAGE, expand="payloads")
    assert item["json_input"] == {"prompt": "a cat", "image_url": image}
    assert item["json_output"] == sandbox.call(request_id).json()
    assert "json_input" not in listed(sandbox, endpoint_id=IMAGE)[0]


@pytest.mark.parametrize(
    "query",
    [
        {"endpoint_id": ""},
        {"endpoint_id": ",".join(["a/b"] * 51)},
        {"limit": 0},
        {"limit": 101},
        {"limit": "ten"},
        {"status": "odd"},
        {"cursor": "xx"},
        {"since": "yesterday"},
    ],
)
def test_a_mistaken_question_is_refused_in_the_platforms_shape(sandbox: Sandbox, query: dict[str, Any]) -> None:
    answer = ask(sandbox, **query)
    assert answer.status_code == 422
    assert answer.json()["error"]["type"] == "validation_error"
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("path", [LIST, "/v1/account/billing"])
@pytest.mark.parametrize(
    ("authorization", "code"), [("", 401), ("Key sandbox-unknown:x", 401), ("Key sandbox-locked:x", 403)]
)
def test_the_platform_takes_the_keys_that_the_queue_takes(
    sandbox: Sandbox, path: str, authorization: str, code: int
) -> None:
    answer = sandbox.http.get(path, params={"endpoint_id": TEXT}, headers={"authorization": authorization})
    assert answer.status_code == code
    assert answer.json()["error"]["type"] == "authorization_error"


@pytest.mark.parametrize(("call", "path"), [("list", f"{LIST}?endpoint_id={TEXT}"), ("billing", "/v1/account/billing")])
@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        ("401", 401, "authorization_error"),
        ("403-locked", 403, "authorization_error"),
        ("404", 404, "not_found"),
        ("429", 429, "rate_limited"),
        ("500", 500, "server_error"),
        ("502-html", 502, None),
    ],
)
def test_the_platform_can_be_away(
    sandbox: Sandbox, call: str, path: str, fault: str, code: int, kind: str | None
) -> None:
    sandbox.set_fault(call=call, fault=fault, times=1)
    answer = sandbox.http.get(path)
    assert answer.status_code == code
    if kind:
        assert answer.json()["error"]["type"] == kind
    assert sandbox.http.get(path).status_code == 200
    assert sandbox.http.get("/_sandbox/state").json()["calls"] == {call: 2}


def test_a_list_can_be_cut_off_or_garbled(sandbox: Sandbox) -> None:
    sandbox.set_fault(call="list", fault="truncated", times=1)
    with pytest.raises(ValueError, match=r"."):
        ask(sandbox).json()
    sandbox.set_fault(call="list", fault="reset", times=1)
    with pytest.raises(httpx.ReadError):
        ask(sandbox)


def test_the_balance_goes_down_by_what_is_billed(sandbox: Sandbox) -> None:
    told = sandbox.http.post("/_sandbox/account", json={"balance_usd": "10.00"}).json()
    assert told["balance_usd"] == "10.00"
    assert balance(sandbox) == 10.0
    for prompt in ("a cat", "[refuse]", "[500-billed]", "[no-units]", "[odd-units]"):
        sandbox.wait(sandbox.start(prompt))
    assert balance(sandbox) == round(10 - 0.28 * (5 + 0 + 0 + 5 + 3.008), 9)
    sandbox.http.delete("/_sandbox/requests")
    assert balance(sandbox) == round(10 - 0.28 * 13.008, 9)
    assert "credits" not in sandbox.http.get("/v1/account/billing").json()


BOOKS: dict[str, tuple[str, int, str | None, str]] = {
    "a cat": ("succeeded", 200, "5", "5"),
    "[no-units]": ("succeeded", 200, None, "5"),
    "[odd-units]": ("succeeded", 200, "3.008", "3.008"),
    "[zero-units]": ("succeeded", 200, "0", "0"),
    "[refuse]": ("content_policy_violation", 422, "0", "0"),
    "[refuse-billed]": ("content_policy_violation", 422, "5", "5"),
    "[refuse-no-units]": ("content_policy_violation", 422, None, "0"),
    "[500-billed]": ("internal_server_error", 500, "5", "0"),
    "[runner-lost]": ("runner_disconnected", 503, None, "0"),
    "x" * 2501: ("sequence_too_long", 422, "0", "0"),
}


@pytest.mark.parametrize(("prompt", "expected"), BOOKS.items())
def test_the_books_say_how_each_request_ended_and_what_was_billed(
    sandbox: Sandbox, prompt: str, expected: tuple[str, int, str | None, str]
) -> None:
    request_id = sandbox.start(prompt)
    sandbox.wait(request_id)
    (job,) = sandbox.requests()
    found = (job["outcome"], job["result_status"], job["billable_units"], job["billed_units"])
    assert found == expected
    assert (job["request_id"], job["endpoint"], job["input"], job["webhook"]) == (
        request_id,
        TEXT,
        {"prompt": prompt},
        None,
    )
    sent, started, ended = (datetime.fromisoformat(job[name]) for name in ("submitted_at", "started_at", "ended_at"))
    assert sent <= started <= ended


def test_the_books_know_what_never_started(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[never-starts]", headers={"x-fal-request-timeout": "3"})
    (before,) = sandbox.requests()
    assert (before["started_at"], before["ended_at"], before["outcome"], before["billed_units"]) == (None,) * 4
    sandbox.wait(request_id)
    (after,) = sandbox.requests()
    assert after["started_at"] is None
    assert after["ended_at"]
    assert (after["outcome"], after["result_status"], after["billed_units"]) == ("request_timeout", 504, "0")
