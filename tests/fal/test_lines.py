"""A status with its log, its inference time, and what an error's reply says beside its words."""

import pytest

from app.fal import MOST_LINES, Completed, Failed, InProgress, LogLine, Trouble, alias_ref
from app.fal.messages import Reply
from app.fal.verdicts import read_result

from .conftest import OpenQueue
from .wire import KLING, REQUEST_ID, answer, serving

REF = alias_ref(KLING, REQUEST_ID)
ENTRY = {"message": "Loading", "level": "WARN", "source": "USER", "timestamp": "2026-11-20T09:00:00Z"}
LINE = LogLine("Loading", "WARN", "USER", "2026-11-20T09:00:00Z")


@pytest.mark.parametrize(
    ("logs", "lines"),
    [
        ([ENTRY, ENTRY], (LINE, LINE)),
        (
            [{"message": "a\n\x1b[31mb\0" + "c" * 9000}],
            (LogLine("a  [31mb " + "c" * 1990 + "…", "INFO", "USER", None),),
        ),
        (["bare", 7, None, {}], tuple(LogLine(text, "INFO", "USER", None) for text in ("bare", "7", "", ""))),
        (
            [{"message": {"a": 1}, "level": 5, "source": "x" * 99, "timestamp": []}],
            (LogLine('{"a":1}', "5", "x" * 49 + "…", None),),
        ),
        (None, ()),
        ({"0": "x"}, ()),
        ("text", ()),
    ],
)
async def test_a_log_is_read_bounded_and_cleaned(
    logs: object, lines: tuple[LogLine, ...], open_queue: OpenQueue
) -> None:
    async with serving(answer(202, {"status": "IN_PROGRESS", "logs": logs})) as server:
        assert await open_queue(server.url).status(REF, with_log=True) == InProgress(lines)
        assert server.heard[0].line == f"GET {REF.status_path}?logs=1 HTTP/1.1"


async def test_only_so_many_lines_are_read(open_queue: OpenQueue) -> None:
    async with serving(answer(200, {"status": "COMPLETED", "logs": [ENTRY] * 1500})) as server:
        assert await open_queue(server.url).status(REF, with_log=True) == Completed(
            None, None, lines=(LINE,) * MOST_LINES
        )


async def test_a_log_beyond_all_measure_is_trouble(open_queue: OpenQueue) -> None:
    body = {"status": "COMPLETED", "logs": [{"message": "x" * 100_000}] * 100}
    async with serving(answer(200, body)) as server:
        assert isinstance(await open_queue(server.url).status(REF, with_log=True), Trouble)


@pytest.mark.parametrize(
    ("metrics", "seconds"),
    [
        ({"inference_time": 3}, 3.0),
        ({"inference_time": 0.25}, 0.25),
        ({"inference_time": None}, None),
        ({"inference_time": "3"}, None),
        ({"inference_time": -1}, None),
        ({"inference_time": True}, None),
        ({"inference_time": 1e300}, None),
        ({}, None),
        (None, None),
        (3, None),
    ],
)
async def test_an_inference_time_is_a_number_of_seconds(
    metrics: object, seconds: float | None, open_queue: OpenQueue
) -> None:
    async with serving(answer(200, {"status": "COMPLETED", "metrics": metrics})) as server:
        assert await open_queue(server.url).status(REF) == Completed(None, None, seconds)


def error_of(body: bytes, **headers: str) -> Failed:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    outcome = read_result(Reply(422, named, body), REF, Completed("no", None))
    assert isinstance(outcome, Failed)
    return outcome


def test_an_errors_reply_is_kept_as_clients_see_it() -> None:
    body = (
        b'{"detail":[{"loc":["body","prompt"],"msg":"two\\nlines","type":"t","url":"https://x","ctx":{"n":5},'
        b'"input":"a boat"}],"error_type":"e","other":1}'
    )
    error = error_of(
        body, x_fal_error_type="e", x_fal_retryable="true", x_fal_billable_units="0", set_cookie="a=b"
    ).error
    entry = {"loc": ["body", "prompt"], "msg": "two\nlines", "type": "t", "url": "https://x", "ctx": {"n": 5}}
    assert error.body == {"detail": [{**entry, "input": "a boat"}], "error_type": "e"}
    assert error.headers == {"x-fal-error-type": "e", "x-fal-retryable": "true", "x-fal-billable-units": "0"}


def test_what_an_error_repeats_of_a_large_input_goes_first() -> None:
    inputs = b",".join(b'{"msg":"m","input":"' + b"x" * 2900 + b'"}' for _ in range(8))
    assert error_of(b'{"detail":[' + inputs + b"]}").error.body == {"detail": [{"msg": "m"}] * 8}


def test_an_image_in_an_error_is_known_by_its_type_alone() -> None:
    body = b'{"detail":[{"msg":"m","input":{"image_url":"data:image/png;base64,iVBORw0KGgo"}}]}'
    assert error_of(body).error.body == {"detail": [{"msg": "m", "input": {"image_url": "data:image/png;…"}}]}


def test_a_header_that_cannot_be_sent_on_is_dropped() -> None:
    headers = error_of(b'{"detail":"x"}', x_fal_error_type="a\r\nb: c", x_fal_retryable="jä").error.headers
    assert headers == {"x-fal-error-type": "a  b: c"}
