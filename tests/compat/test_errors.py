"""Refusals in fal's shapes: read well by both clients, and repeated by neither."""

import asyncio
import json
from typing import Any

import pytest

from app.sandbox.validation import find_problems
from tests.gateway import ADMIN, Gateway, Person

from .asking import IMAGE, TEXT, entries, key, refusal, submit

pytestmark = pytest.mark.asyncio(loop_scope="package")

REPEATED = {408, 409, 429}
"""By Python, ten times, on submits too (FAL.md 4.1)."""


@pytest.mark.parametrize(
    ("endpoint", "given"),
    [
        (TEXT, {}),
        (TEXT, {"prompt": 7}),
        (TEXT, {"prompt": "x" * 2501}),
        (TEXT, {"prompt": "a boat", "duration": "7"}),
        (TEXT, {"prompt": "a boat", "aspect_ratio": "2:1", "negative_prompt": "x" * 2501}),
        (TEXT, {"prompt": "a boat", "cfg_scale": 2}),
        (TEXT, {"prompt": "a boat", "cfg_scale": -1}),
        (IMAGE, {"prompt": "a boat"}),
        (IMAGE, {"image_url": 5}),
    ],
)
async def test_bad_input_is_told_as_the_model_tells_it(
    gateway: Gateway, ann: Person, endpoint: str, given: dict[str, Any]
) -> None:
    answer = await submit(gateway, ann, given, endpoint=endpoint)
    ours = sorted(entries(answer), key=lambda entry: list(entry["loc"]))
    assert ours == sorted(find_problems(endpoint, given), key=lambda entry: list(entry["loc"]))
    assert "error_type" not in answer.json()
    assert (answer.headers["x-fal-billable-units"], answer.headers["x-fal-retryable"]) == ("0", "false")


@pytest.mark.parametrize(
    ("endpoint", "given", "kind"),
    [
        (TEXT, {"prompt": "a boat", "seed": 7}, "extra_forbidden"),
        (TEXT, {"prompt": ""}, "sequence_too_short"),
        (TEXT, {"prompt": "\0"}, "value_error"),
        (TEXT, ["a boat"], "model_type"),
        (IMAGE, {"prompt": "a boat", "image_url": "ftp://e.com/a.png"}, "file_download_error"),
        (IMAGE, {"prompt": "a boat", "image_url": "data:image/png;base64,?" + "x" * 9000}, "file_download_error"),
    ],
)
async def test_what_fal_has_no_words_for_is_said_in_its_shape(
    gateway: Gateway, ann: Person, endpoint: str, given: Any, kind: str
) -> None:
    answer = await submit(gateway, ann, given, endpoint=endpoint)
    (entry,) = entries(answer)
    assert entry["type"] == kind
    assert entry["loc"][0] == "body"
    assert len(answer.content) < 1500


def no_json(word: str) -> None:
    raise AssertionError(word)


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt": "x", "cfg_scale": 1e999}',
        b'{"prompt": "x", "cfg_scale": -1e999}',
        b"1e999",
        b'{"prompt": "x", "duration": %s}' % (b"9" * 4_000),
        b'{"prompt": "x", "%s": 1}' % (b"y" * 100_000),
    ],
    ids=["infinite", "negative", "nothing-else", "huge", "long-name"],
)
async def test_a_refusal_is_json_and_short_whatever_it_is_about(gateway: Gateway, ann: Person, body: bytes) -> None:
    headers = key(ann) | {"content-type": "application/json"}
    answer = await gateway.client.post(f"/fal/{TEXT}", content=body, headers=headers)
    entries(answer)
    json.loads(answer.content, parse_constant=no_json)  # as JavaScript reads it
    assert len(answer.content) < 1500


async def test_a_quota_of_any_kind_is_a_402_with_its_figures(gateway: Gateway) -> None:
    for metric, window, error_type in (
        ("usd", "day", "quota_exceeded"),
        ("in_flight", None, "too_many_in_flight"),
        ("jobs", "minute", "too_many_jobs"),
    ):
        person = await gateway.make_person()
        await gateway.set_quota("0", metric, window, scope="user", scope_id=person.user_id)
        for path in (TEXT, f"run/{TEXT}"):
            body = refusal(await submit(gateway, person, endpoint=path), 402, error_type)
            assert body["quotas"][0]["metric"] == metric
            assert f"user {metric}" in body["detail"]
            assert "of 0 left" in body["detail"].replace("0.00", "0")


async def test_what_is_no_json_is_refused(gateway: Gateway, ann: Person) -> None:
    for content, kind in ((b"{", "application/json"), (b"", "application/json"), (b'{"prompt":"x"}', "text/plain")):
        headers = ann.headers | {"content-type": kind}
        refusal(await gateway.client.post(f"/fal/{TEXT}", content=content, headers=headers), 415, "not_json")


async def test_too_many_wrong_keys_are_refused_by_a_code_that_no_client_repeats(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = gateway.app.state.failures
    monkeypatch.setattr(failures, "most", 3)
    failures._windows.clear()
    wrong = [{"Authorization": f"Key fg_{n:049}"} for n in range(5)]
    answers = [await gateway.client.post(f"/fal/{TEXT}", json={"prompt": "x"}, headers=one) for one in wrong]
    failures._windows.clear()
    assert [answer.status_code for answer in answers] == [401, 401, 401, 403, 403]
    refusal(answers[-1], 403, "too_many_failures")


async def test_admin_key_stands_for_no_user(gateway: Gateway) -> None:
    refusal(await gateway.client.post(f"/fal/{TEXT}", json={"prompt": "x"}, headers=ADMIN), 403, "role_forbidden")


async def test_no_refusal_of_a_submit_is_one_that_python_repeats(gateway: Gateway, ann: Person) -> None:
    gateway.app.state.rooms.seats.most, most = 0, gateway.app.state.rooms.seats.most
    try:
        answers = [await submit(gateway, ann, endpoint=f"run/{TEXT}")]
    finally:
        gateway.app.state.rooms.seats.most = most
    answers += await asyncio.gather(
        submit(gateway, ann, {}), submit(gateway, ann, endpoint="nothing/here"), submit(gateway, ann, X_End_User="")
    )
    assert not REPEATED & {answer.status_code for answer in answers}
    refusal(answers[0], 403, "too_many_streams")
