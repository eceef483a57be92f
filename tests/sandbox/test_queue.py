"""fal's queue as FAL.md section 1 tells it."""

import json
from typing import Any

import httpx
import pytest

from .running import TEXT, Sandbox


def test_a_submit_answers_with_alias_urls(sandbox: Sandbox) -> None:
    answer = sandbox.submit("a cat")
    content = answer.json()
    request_id = content["request_id"]
    base = f"{sandbox.url}/fal-ai/kling-video/requests/{request_id}"
    assert answer.status_code == 200
    assert answer.headers["x-fal-request-id"] == request_id
    assert content["status"] == "IN_QUEUE"
    assert content["queue_position"] >= 0
    urls = [content["response_url"], content["status_url"], content["cancel_url"]]
    assert urls == [base, f"{base}/status", f"{base}/cancel"]


@pytest.mark.parametrize(
    ("endpoint", "alias"),
    [
        ("fal-ai/kling-video/v2.1/master/image-to-video", "fal-ai/kling-video"),
        ("kling/v4/text-to-video", "kling/v4"),
        ("somebody/text-to-video", "somebody/text-to-video"),
        ("workflows/somebody/film/text-to-video", "workflows/somebody/film"),
        ("comfy/somebody/image-to-video", "comfy/somebody/image-to-video"),
        ("fal-ai/veo3.1", "fal-ai/veo3.1"),
    ],
)
def test_any_owner_and_both_namespaces_are_served(sandbox: Sandbox, endpoint: str, alias: str) -> None:
    content = sandbox.submit("a cat", endpoint, image_url="https://example.com/cat.png").json()
    assert content["status_url"] == f"{sandbox.url}/{alias}/requests/{content['request_id']}/status"
    sandbox.wait_url(content["status_url"])
    assert sandbox.http.get(content["response_url"]).status_code == 200


@pytest.mark.parametrize("endpoint", ["fal-ai/flux/dev", "text-to-video", "workflows/text-to-video", "a//b"])
def test_an_unknown_path_is_named_in_a_404(sandbox: Sandbox, endpoint: str) -> None:
    answer = sandbox.submit("a cat", endpoint)
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("Path /")
    assert answer.json()["detail"].endswith(" not found")
    assert sandbox.requests() == []


@pytest.mark.parametrize("base", ["fal-ai/kling-video", TEXT])
def test_every_form_of_the_urls_works(sandbox: Sandbox, base: str) -> None:
    request_id = sandbox.start("a cat")
    sandbox.move(request_id, "COMPLETED")
    for tail in ("", "/", "/response", "/response/", "/status", "/status/", "/status/stream"):
        answer = sandbox.http.get(f"/{base}/requests/{request_id}{tail}")
        assert answer.status_code == 200, tail
        assert answer.headers["x-fal-request-id"] == request_id
    assert sandbox.http.get(f"/fal-ai/other/requests/{request_id}/status").status_code == 404
    assert sandbox.http.post(f"/{base}/requests/{request_id}/status").status_code == 405


def test_each_status_has_its_own_members(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[hang]")
    sandbox.move(request_id, "IN_QUEUE")
    queued = sandbox.call(request_id, "/status?logs=1")
    assert queued.status_code == 202
    assert queued.json()["status"] == "IN_QUEUE"
    assert isinstance(queued.json()["queue_position"], int)
    assert "logs" not in queued.json()

    sandbox.move(request_id, "IN_PROGRESS")
    running = sandbox.call(request_id, "/status?logs=true")
    assert running.status_code == 202
    assert set(running.json()["logs"][0]) == {"message", "level", "source", "timestamp"}
    assert sandbox.call(request_id, "/status").json()["logs"] is None

    sandbox.move(request_id, "COMPLETED")
    ended = sandbox.call(request_id, "/status?logs=0")
    assert ended.status_code == 200
    assert ended.json()["status"] == "COMPLETED"
    assert ended.json()["logs"] is None
    assert ended.json()["metrics"]["inference_time"] >= 0
    assert "error" not in ended.json()


def test_a_result_is_not_there_before_the_end(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[never-starts]")
    answer = sandbox.call(request_id)
    assert (answer.status_code, answer.json()) == (400, {"detail": "Request is still in progress"})


@pytest.mark.parametrize(("tail", "method"), [("", "GET"), ("/status", "GET"), ("/cancel", "PUT")])
def test_an_unknown_request_is_not_found(sandbox: Sandbox, tail: str, method: str) -> None:
    answer = sandbox.call("00000000-0000-4000-8000-000000000000", tail, method)
    assert (answer.status_code, answer.json()) == (404, {"status": "NOT_FOUND"})
    assert answer.headers["x-fal-request-id"]


def test_cancel_says_how_far_the_job_was(sandbox: Sandbox) -> None:
    queued, running = sandbox.start("[never-starts]"), sandbox.start("[hang]")
    sandbox.move(running, "IN_PROGRESS")
    ended = sandbox.start("a cat")
    sandbox.move(ended, "COMPLETED")
    answers = [sandbox.call(request_id, "/cancel", "PUT") for request_id in (queued, running, ended)]
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [
        (200, "OK"),
        (202, "CANCELLATION_REQUESTED"),
        (400, "ALREADY_COMPLETED"),
    ]
    for request_id in (queued, running):
        assert sandbox.wait(request_id)["error_type"] == "client_cancelled"
        result = sandbox.call(request_id)
        assert result.status_code == 499
        assert result.headers["x-fal-error-type"] == "client_cancelled"
        assert result.headers["x-fal-billable-units"] == "0"
    assert sandbox.call(ended).status_code == 200


def test_a_status_stream_tells_each_change_and_ends(sandbox: Sandbox) -> None:
    sandbox.set_clock(speed=0)
    request_id = sandbox.start("a cat")
    statuses = []
    with sandbox.http.stream("GET", f"/fal-ai/kling-video/requests/{request_id}/status/stream?logs=1") as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        for line in stream.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                statuses.append(event["status"])
                sandbox.set_clock(advance=2)
    assert statuses == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    assert event["logs"][-1]["message"] == "Rendering: 100%"


@pytest.mark.parametrize("authorization", ["", "Key", "Bearer fg_abc", "Key sandbox-unknown:secret"])
def test_a_missing_or_unknown_key_gets_401(sandbox: Sandbox, authorization: str) -> None:
    headers = {"authorization": authorization}
    answer = sandbox.submit("a cat", headers=headers)
    assert answer.status_code == 401
    assert isinstance(answer.json()["detail"], str)
    assert answer.headers["x-fal-request-id"]
    status = sandbox.http.get("/fal-ai/kling-video/requests/any/status", headers=headers)
    assert status.status_code == 401
    assert sandbox.requests() == []


def test_a_locked_key_is_locked_everywhere(sandbox: Sandbox) -> None:
    headers = {"authorization": "Key sandbox-locked:secret"}
    request_id = sandbox.start("a cat")
    status = sandbox.http.get(f"/fal-ai/kling-video/requests/{request_id}/status", headers=headers)
    for answer in (sandbox.submit("a cat", headers=headers), status):
        assert answer.status_code == 403
        assert answer.json()["detail"].startswith("User is locked. Reason: ")


def test_a_body_that_is_not_json_is_refused_at_once(sandbox: Sandbox) -> None:
    answer = sandbox.http.post(f"/{TEXT}", content=b"{prompt")
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon"])
def test_a_start_deadline_must_be_a_duration(sandbox: Sandbox, seconds: str) -> None:
    answer = sandbox.submit("a cat", headers={"x-fal-request-start-timeout": seconds})
    assert answer.status_code == 400


def test_a_job_that_starts_in_time_is_not_touched_by_its_deadline(sandbox: Sandbox) -> None:
    request_id = sandbox.start("a cat", headers={"x-fal-request-start-timeout": "2"})
    assert "error" not in sandbox.wait(request_id)


def test_the_input_is_judged_only_when_the_job_runs(sandbox: Sandbox) -> None:
    request_id = sandbox.start("x" * 2501)
    status = sandbox.wait(request_id)
    assert status["error_type"] == "sequence_too_long"
    result = sandbox.call(request_id)
    assert result.status_code == 422
    assert result.headers["x-fal-billable-units"] == "0"
    (problem,) = result.json()["detail"]
    assert problem["loc"] == ["body", "prompt"]
    assert problem["ctx"] == {"max_length": 2500}


def test_two_jobs_at_once_are_two_when_there_is_room_for_two(limited: Sandbox) -> None:
    jobs = [limited.start(f"[hang] {number}") for number in range(5)]
    limited.set_clock(advance=1e3)
    assert _statuses(limited, jobs) == ["IN_PROGRESS"] * 2 + ["IN_QUEUE"] * 3
    positions = [limited.call(job, "/status").json()["queue_position"] for job in jobs[2:]]
    assert positions == [0, 1, 2]

    limited.call(jobs[2], "/cancel", "PUT")
    limited.call(jobs[0], "/cancel", "PUT")
    limited.wait(jobs[0])
    assert _statuses(limited, jobs[1:]) == ["IN_PROGRESS", "COMPLETED", "IN_PROGRESS", "IN_QUEUE"]


def test_who_waits_too_long_for_room_misses_the_start_deadline(limited: Sandbox) -> None:
    limited.set_clock(speed=0)
    for _ in range(2):
        limited.start("[hang]")
    late = limited.start("a cat", headers={"x-fal-request-start-timeout": "60"})
    limited.set_clock(advance=59)
    assert _statuses(limited, [late]) == ["IN_QUEUE"]
    limited.set_clock(advance=2)
    assert limited.call(late, "/status").json()["error_type"] == "request_timeout"


def test_what_nobody_looked_at_still_went_its_way(limited: Sandbox) -> None:
    limited.set_clock(speed=0)
    jobs = [limited.start("a cat", headers={"x-fal-request-start-timeout": "5"}) for _ in range(5)]
    last = limited.start("a cat")
    limited.set_clock(advance=9)
    # Two start after 1 s, two after 4 s; the fifth would have after 7 s, when the last one does.
    ends = [limited.call(job, "/status").json() for job in jobs]
    assert [end.get("error_type") for end in ends] == [None] * 4 + ["request_timeout"]
    assert [end["metrics"]["inference_time"] for end in ends] == [3.0] * 4 + [None]
    assert _statuses(limited, [last]) == ["IN_PROGRESS"]


def _statuses(sandbox: Sandbox, jobs: list[str]) -> list[Any]:
    return [sandbox.call(job, "/status").json()["status"] for job in jobs]


def test_a_connection_survives_many_calls(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[hang]")
    with httpx.Client(base_url=sandbox.url, headers={"authorization": "Key a:b"}, trust_env=False) as client:
        answers = [client.get(f"/fal-ai/kling-video/requests/{request_id}/status").status_code for _ in range(50)]
    assert answers == [202] * 50
