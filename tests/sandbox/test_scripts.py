"""Every word of the table does what its row says."""

from typing import Any

import httpx
import pytest

from app.sandbox.scripts import SCRIPTS, scripts_as_markdown

from .running import Sandbox

REFUSED_AT_SUBMIT = {
    "refuse-at-submit": 422,
    "bad-request": 400,
    "no-path": 404,
    "too-large": 413,
    "unknown-key": 401,
    "locked": 403,
    "busy": 429,
    "unavailable": 503,
    "bad-gateway": 502,
}
LOST: dict[str, type[Exception] | int] = {
    "lost": httpx.RemoteProtocolError,
    "cut": httpx.RemoteProtocolError,
    "silent": httpx.ReadTimeout,
    "lost-502": 502,
    "lost-500": 500,
    "odd-code": 202,
    "garbled": 200,
    "empty": 200,
}
# word: (code of the result, error type, x-fal-billable-units, retryable)
ENDS: dict[str, tuple[int, str | None, str | None, str | None]] = {
    "refuse": (422, "content_policy_violation", "0", "false"),
    "refuse-billed": (422, "content_policy_violation", "5", "false"),
    "refuse-no-units": (422, "content_policy_violation", None, "false"),
    "no-media": (422, "no_media_generated", "0", "false"),
    "bad-image": (422, "image_load_error", "0", "false"),
    "400": (400, "downstream_service_error", "0", "true"),
    "403": (403, "feature_not_supported", "0", "false"),
    "500": (500, "internal_server_error", None, "false"),
    "500-billed": (500, "internal_server_error", "5", "false"),
    "downstream": (500, "downstream_service_unavailable", None, "true"),
    "runner-lost": (503, "runner_disconnected", None, None),
    "timeout": (504, "generation_timeout", None, "true"),
    "no-video": (200, None, "5", None),
    "odd-units": (200, None, "3.008", None),
    "zero-units": (200, None, "0", None),
    "no-units": (200, None, None, None),
    "quick": (200, None, "5", None),
    "slow": (200, None, "5", None),
}
OWN_TESTS = {
    "dropped",
    "elsewhere",
    "late-answer",
    "unlisted",
    "no-webhook",
    "bare-webhook",
    "requeue",
    "never-starts",
    "hang",
    "unknown-status",
    "forgotten",
    "finishes-anyway",
    "locked-later",
    "refuse-quietly",
    "garbled-result",
    "lapsed-video",
}


def test_every_script_is_tested_and_stands_in_the_table() -> None:
    words = [script.word for script in SCRIPTS]
    assert len(words) == len(set(words))
    assert set(words) == {*REFUSED_AT_SUBMIT, *LOST, *ENDS, *OWN_TESTS}
    assert scripts_as_markdown().count("\n") == len(words) + 1


@pytest.mark.parametrize(("word", "code"), REFUSED_AT_SUBMIT.items())
def test_a_refused_submit_leaves_nothing(sandbox: Sandbox, word: str, code: int) -> None:
    answer = sandbox.submit(f"a cat [{word}]")
    assert answer.status_code == code
    assert sandbox.requests() == []


def test_a_dropped_submit_leaves_nothing(sandbox: Sandbox) -> None:
    with pytest.raises(httpx.ReadError):
        sandbox.submit("[dropped]")
    assert sandbox.requests() == []


@pytest.mark.parametrize(("word", "seen"), LOST.items())
def test_a_lost_submit_is_recorded(sandbox: Sandbox, word: str, seen: type[Exception] | int) -> None:
    if isinstance(seen, int):
        answer = sandbox.submit(f"[{word}]")
        assert answer.status_code == seen
        if seen == 200:
            with pytest.raises(ValueError, match=r"."):
                answer.json()
    else:
        with pytest.raises(seen):
            sandbox.http.post(
                "/fal-ai/kling-video/v2.1/master/text-to-video", json={"prompt": f"[{word}]"}, timeout=0.5
            )
    (job,) = sandbox.requests()
    assert sandbox.wait(job["request_id"])["status"] == "COMPLETED"


@pytest.mark.parametrize(("word", "expected"), ENDS.items())
def test_a_job_ends_as_written(sandbox: Sandbox, word: str, expected: tuple[Any, ...]) -> None:
    code, kind, units, retryable = expected
    request_id = sandbox.start(f"a cat [{word}]")
    if word == "slow":
        sandbox.move(request_id, "COMPLETED")
    status = sandbox.wait(request_id)
    assert status.get("error_type") == kind
    assert ("error" in status) == (code != 200)
    result = sandbox.call(request_id)
    assert result.status_code == code
    assert result.headers.get("x-fal-billable-units") == units
    assert result.headers.get("x-fal-retryable") == retryable
    assert result.headers["x-fal-request-id"] == request_id
    if isinstance(result.json().get("detail"), list):
        assert result.json()["detail"][0]["type"] == kind
    elif kind:
        assert result.json()["error_type"] == result.headers["x-fal-error-type"] == kind


def test_a_requeued_job_goes_back_and_forth(sandbox: Sandbox) -> None:
    sandbox.set_clock(speed=0)
    request_id = sandbox.start("[requeue]")
    seen: list[str] = []
    for _ in range(5):
        seen.append(sandbox.call(request_id, "/status").json()["status"])
        sandbox.set_clock(advance=1.01)
    assert seen == ["IN_QUEUE", "IN_PROGRESS", "IN_QUEUE", "IN_PROGRESS", "COMPLETED"]


@pytest.mark.parametrize("header", ["x-fal-request-start-timeout", "x-fal-request-timeout"])
def test_what_never_starts_ends_by_its_start_deadline(sandbox: Sandbox, header: str) -> None:
    request_id = sandbox.start("[never-starts]", headers={header: "2"})
    status = sandbox.wait(request_id)
    assert status["error_type"] == "request_timeout"
    result = sandbox.call(request_id)
    assert result.status_code == 504
    assert result.headers["x-fal-request-timeout-type"] == "user"
    assert "x-fal-billable-units" not in result.headers


def test_without_a_deadline_it_waits_for_ever(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[never-starts]")
    sandbox.set_clock(advance=1e9)
    assert sandbox.call(request_id, "/status").json()["status"] == "IN_QUEUE"


def test_a_hanging_job_ends_only_by_cancel(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[hang]")
    sandbox.set_clock(advance=1e9)
    assert sandbox.call(request_id, "/status").json()["status"] == "IN_PROGRESS"
    assert sandbox.call(request_id, "/cancel", "PUT").status_code == 202
    assert sandbox.wait(request_id)["error_type"] == "client_cancelled"
    assert sandbox.call(request_id).status_code == 499


def test_an_unknown_status_word_is_shown_while_it_runs(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[unknown-status] [hang]")
    sandbox.move(request_id, "IN_PROGRESS")
    assert sandbox.call(request_id, "/status").json()["status"] == "PAUSED"
    sandbox.move(request_id, "COMPLETED")
    assert sandbox.call(request_id).status_code == 200


def test_a_forgotten_job_is_unknown(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[forgotten]")
    sandbox.move(request_id, "COMPLETED")
    for tail in ("", "/status"):
        answer = sandbox.call(request_id, tail)
        assert (answer.status_code, answer.json()) == (404, {"status": "NOT_FOUND"})


def test_a_job_can_finish_in_spite_of_its_cancel(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[finishes-anyway] [slow]")
    sandbox.move(request_id, "IN_PROGRESS")
    assert sandbox.call(request_id, "/cancel", "PUT").json() == {"status": "CANCELLATION_REQUESTED"}
    assert sandbox.call(request_id, "/status").json()["status"] == "IN_PROGRESS"
    sandbox.move(request_id, "COMPLETED")
    assert sandbox.call(request_id).status_code == 200


def test_a_lock_hits_reads_of_a_running_job(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[locked-later]")
    answers = [sandbox.call(request_id, "/status") for _ in range(4)]
    assert [answer.status_code == 403 for answer in answers] == [True, True, True, False]
    assert answers[0].json()["detail"].startswith("User is locked")
    assert answers[0].headers["x-fal-request-id"] != request_id


def test_a_quiet_refusal_shows_only_on_the_result(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[refuse-quietly]")
    assert "error" not in sandbox.wait(request_id)
    assert sandbox.call(request_id).status_code == 422


def test_a_result_can_be_garbled_on_its_way(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[garbled-result]")
    sandbox.move(request_id, "COMPLETED")
    answers = [sandbox.call(request_id) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [502, 502, 200]
    assert "x-fal-request-id" not in answers[0].headers


def test_urls_can_name_another_host(sandbox: Sandbox) -> None:
    answer = sandbox.submit("[elsewhere]").json()
    assert answer["status_url"].startswith("http://elsewhere.invalid/fal-ai/kling-video/requests/")
    assert sandbox.wait(answer["request_id"])["status"] == "COMPLETED"


def test_a_lapsed_video_is_named_and_not_there(sandbox: Sandbox) -> None:
    request_id = sandbox.start("[lapsed-video]")
    sandbox.wait(request_id)
    url = sandbox.call(request_id).json()["video"]["url"]
    assert sandbox.http.get(url).status_code == 404
