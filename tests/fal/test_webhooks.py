"""What a verified webhook of fal's says, and when it tells how a request ended."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.fal import Failed, Succeeded, read_webhook, told_outcome
from tests.fal.signing import told
from tests.fal.wire import REQUEST_ID

TOO_LONG = {"detail": [{"loc": ["body", "prompt"], "msg": "too long", "type": "string_too_long", "input": "x" * 9000}]}


def _outcome(**members: Any) -> Succeeded | Failed | None:
    webhook = read_webhook(told(**members))
    assert webhook is not None
    assert webhook.fal_request_id == REQUEST_ID
    return told_outcome(webhook.kept)


def _failed(**members: Any) -> Failed:
    outcome = _outcome(**members)
    assert isinstance(outcome, Failed)
    return outcome


def test_a_success_carries_the_output_and_never_what_was_billed() -> None:
    assert _outcome(payload={"video": {"url": "u"}, "note": "a\0b"}) == Succeeded(
        {"video": {"url": "u"}, "note": "a\ufffdb"}, None
    )


def test_an_error_carries_the_models_own() -> None:
    outcome = _failed(status="ERROR", error="Invalid status code: 422", payload=TOO_LONG)
    assert (outcome.error.code, outcome.error.type, outcome.error.retryable) == (422, "string_too_long", False)
    assert outcome.error.detail == "prompt: too long"
    assert (outcome.billable, outcome.start_deadline, outcome.canceled) == (None, False, False)


def test_a_cancel_that_fal_carried_out_is_known() -> None:
    payload = {"detail": "Request was cancelled", "error_type": "client_cancelled"}
    assert _failed(status="ERROR", error="Invalid status code: 499", payload=payload).canceled


@pytest.mark.parametrize(
    "members",
    [
        {"payload": None, "payload_error": "not serialisable"},
        {"payload_error": "cut"},
        {"payload": None},
        {"payload": []},
        {"payload": "text"},
        {"error": "odd"},
        {"status": "ERROR"},
        {"status": "ERROR", "error": "Invalid status code: 422"},
        {"status": "ERROR", "error": "Invalid status code: 422", "payload": None},
        {"status": "ERROR", "error": "Invalid status code: 200", "payload": TOO_LONG},
        {"status": "ERROR", "error": "something else", "payload": TOO_LONG},
        {"status": "ERROR", "error": 422, "payload": TOO_LONG},
        {"status": "LATER"},
        {"status": None},
    ],
    ids=str,
)
def test_what_carries_no_outcome_means_fetch_it(members: dict[str, Any]) -> None:
    assert _outcome(**members) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"{", b"\xff", b"{}", b'{"request_id": 5}', b'{"request_id": "a/../b"}', b'{"request_id":""}',
     b"[" * 100_000, b'{"request_id": "ok", "payload": NaN}'],
    ids=lambda body: body[:30],
)  # fmt: skip
def test_what_names_no_request_is_no_webhook(body: bytes) -> None:
    assert read_webhook(body) is None


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["status", "payload", "error", "payload_error", "more"]), JSON))
def test_whatever_json_it_is_what_is_kept_is_json(members: dict[str, Any]) -> None:
    webhook = read_webhook(json.dumps({"request_id": REQUEST_ID, **members}).encode())
    if webhook is not None:
        assert json.loads(webhook.kept)["request_id"] == REQUEST_ID
        told_outcome(webhook.kept)
