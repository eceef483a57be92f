"""Whatever fal answers, nothing is raised, and only a sane request id is accepted."""

import re
from decimal import Decimal

import pydantic_core
from hypothesis import given, settings
from hypothesis import strategies as st

from app.fal import Accepted, Completed, Failed, Refused, Succeeded, Trouble, alias_ref
from app.fal.messages import Reply
from app.fal.paths import FalUrl, is_request_id
from app.fal.verdicts import read_cancel, read_result, read_status, read_submit

from .wire import KLING, REQUEST_ID

SAFE = re.compile(r"[!-~]{1,128}")
URL = FalUrl("https://queue.fal.run")
REF = alias_ref(KLING, REQUEST_ID)

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["COMPLETED", "NOT_FOUND", "OK", REQUEST_ID, "https://queue.fal.run/a/" + REQUEST_ID])
)
names = st.text() | st.sampled_from(
    [
        "request_id",
        "status",
        "status_url",
        "response_url",
        "cancel_url",
        "detail",
        "error",
        "error_type",
        "loc",
        "msg",
        "type",
        "ctx",
        "input",
        "queue_position",
        "success",
    ]
)
json_values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
    max_leaves=30,
)
bodies = st.binary(max_size=200) | json_values.map(pydantic_core.to_json)
header_names = st.sampled_from(
    [
        "x-fal-request-id",
        "x-fal-error-type",
        "x-fal-billable-units",
        "x-fal-retryable",
        "x-fal-needs-retry",
        "x-fal-request-timeout-type",
        "retry-after",
    ]
)
header_values = st.text(max_size=50) | st.sampled_from([REQUEST_ID, "0", "5", "true", "user"])
replies = st.builds(
    Reply,
    st.sampled_from([200, 202, 400, 404, 410, 422, 499, 504]) | st.integers(100, 999),
    st.dictionaries(header_names, header_values, max_size=4),
    bodies,
)
completions = st.builds(Completed, st.none() | st.text(min_size=1), st.none() | st.text(min_size=1))


@settings(deadline=None)
@given(replies)
def test_no_answer_to_a_submit_raises_or_is_accepted_without_a_sane_id(reply: Reply) -> None:
    outcome = read_submit(reply, endpoint=KLING, queue_url=URL)
    if isinstance(outcome, Accepted):
        ref = outcome.ref
        assert reply.code == 200
        assert is_request_id(ref.fal_request_id)
        assert SAFE.fullmatch(ref.fal_request_id)
        assert not set(ref.fal_request_id) & set("/?#%\\")
        for path in (ref.status_path, ref.result_path, ref.cancel_path):
            assert ref.fal_request_id in path.split("/")
            assert ".." not in path.split("/")
            assert URL.at(path).netloc == b"queue.fal.run"
    if isinstance(outcome, Refused):
        assert reply.code in {400, 404, 413, 422}
        assert_fit_to_be_shown(outcome.error.detail)


@settings(deadline=None)
@given(st.text() | st.sampled_from(["a", "..", "a/b"]))
def test_a_request_id_is_safe_in_a_path(text: str) -> None:
    if is_request_id(text):
        assert SAFE.fullmatch(text)
        assert text not in {".", ".."}
        assert URL.at(f"/{text}").path == f"/{text}"


@settings(deadline=None)
@given(replies, completions)
def test_no_answer_to_a_read_raises(reply: Reply, completed: Completed) -> None:
    read_status(reply)
    read_cancel(reply)
    outcome = read_result(reply, REF, completed)
    match outcome:
        case Failed(error=error):
            assert_fit_to_be_shown(error.title)
            assert_fit_to_be_shown(error.detail)
            pydantic_core.to_json(error.body)
        case Succeeded(output=output):
            assert "\\u0000" not in pydantic_core.to_json(output).decode().replace("\\\\", "")
        case Trouble(reason=reason):
            assert_fit_to_be_shown(reason)
        case _:
            pass
    if isinstance(outcome, Failed | Succeeded) and outcome.billable is not None:
        units = outcome.billable.units
        assert units is None or (units.is_finite() and units >= Decimal(0))


def assert_fit_to_be_shown(text: str) -> None:
    assert len(text) <= 1000
    assert text.isprintable()
