"""Status, result and cancel: whose error is it, for every code and every shape of an answer."""

from decimal import Decimal

import pytest

from app.fal import (
    AlreadyCompleted,
    BillableUnits,
    CancelDone,
    CancelOutcome,
    CancelRequested,
    Completed,
    Failed,
    Gone,
    InProgress,
    NotYet,
    Queued,
    ResultOutcome,
    StatusOutcome,
    Succeeded,
    Trouble,
    UnknownStatus,
    alias_ref,
)

from .conftest import FAL_KEY, OpenQueue
from .wire import KLING, REQUEST_ID, Act, answer, serving

REF = alias_ref(KLING, REQUEST_ID)
WELL = Completed(None, None)
BADLY = Completed("Invalid status code: 422", None)
TYPED = Completed(None, "runner_server_error")
VIDEO = {"video": {"url": "https://v3.fal.media/files/a/b.mp4", "file_size": 12345678901234567890}}
HTML = b"<html><center>nginx</center></html>"
OURS = {"x-fal-request-id": REQUEST_ID}


async def read_status(act: Act, open_queue: OpenQueue) -> StatusOutcome:
    async with serving(act) as server:
        return await open_queue(server.url, read_seconds=0.2).status(REF)


async def read_result(act: Act, open_queue: OpenQueue, completed: Completed = WELL) -> ResultOutcome:
    async with serving(act) as server:
        return await open_queue(server.url, read_seconds=0.2).result(REF, completed)


STATUSES: list[tuple[Act, StatusOutcome]] = [
    (answer(202, {"status": "IN_QUEUE", "queue_position": 4}), Queued(4)),
    (answer(202, {"status": "IN_QUEUE"}), Queued(None)),
    (answer(200, {"status": "IN_QUEUE", "queue_position": -1}), Queued(None)),
    (answer(202, {"status": "IN_QUEUE", "queue_position": True}), Queued(None)),
    (answer(202, {"status": "IN_QUEUE", "queue_position": "4"}), Queued(None)),
    (answer(202, {"status": "IN_PROGRESS", "logs": [], "new": 1}), InProgress()),
    (answer(200, {"status": "COMPLETED", "metrics": {"inference_time": 1.5}}), Completed(None, None, 1.5)),
    (answer(200, {"status": "COMPLETED", "error": None, "error_type": None}), WELL),
    (answer(200, {"status": "COMPLETED", "error": ""}), WELL),
    (
        answer(202, {"status": "COMPLETED", "error": "no", "error_type": "bad_request"}),
        Completed("no", "bad_request"),
    ),
    (answer(200, {"status": "COMPLETED", "error": {"a": 1}}), Completed('{"a":1}', None)),
    (answer(200, {"status": "PAUSED"}), UnknownStatus("PAUSED")),
    (answer(200, {"status": "x" * 500}), UnknownStatus("x" * 99 + "…")),
    (answer(200, {"status": 5}), UnknownStatus("5")),
    (answer(404, {"status": "NOT_FOUND"}), Gone(404)),
    (answer(404, {"detail": "Request not found"}), Gone(404)),
    (answer(410, {"detail": [{"msg": "gone"}]}), Gone(410)),
]


@pytest.mark.parametrize(("act", "outcome"), STATUSES)
async def test_a_status_is_read_by_its_body(act: Act, outcome: StatusOutcome, open_queue: OpenQueue) -> None:
    assert await read_status(act, open_queue) == outcome


UNREADABLE = {
    "html": answer(200, HTML),
    "empty": answer(200, b""),
    "a list": answer(200, [1]),
    "no status": answer(200, {}),
    "an empty status": answer(200, {"status": ""}),
    "a status of 204": answer(204),
    "a status of 500": answer(500, {"status": "COMPLETED"}),
    "a redirect": answer(307, {"status": "COMPLETED"}, headers={"Location": "/elsewhere"}),
    "a proxy's 404": answer(404, HTML),
    "an empty 404": answer(404, b""),
    "another 404": answer(404, {"message": "no Route matched"}),
    "a wrong key": answer(401, {"detail": "Authentication is required"}),
    "locked": answer(403, {"detail": "User is locked. Reason: TOP_UP"}),
    "too many": answer(429, {"detail": "slow down"}),
    "too long": answer(200, b'{"status":"' + b"x" * 1_100_000 + b'"}'),
    "closes": Act(),
    "resets": Act(then="reset"),
    "hangs": Act(then="hang"),
    "half the headers": Act(b"HTTP/1.1 200 OK\r\n"),
    "half the body": Act(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"status":"COMPLETED"}'),
    "half the body, silence": Act(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", then="hang"),
    "half the body, reset": Act(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", then="reset"),
    "chunked garbage": Act(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
    "not http": Act(b"SSH-2.0-OpenSSH\r\n"),
    "a bad header": Act(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n{}"),
    "a header too long": Act(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000 + b"\r\n\r\n{}"),
    "switching protocols": Act(b"HTTP/1.1 101 Up\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
    "gzip that is none": answer(200, {"status": "COMPLETED"}, headers={"Content-Encoding": "gzip"}),
    "brotli": answer(200, {"status": "COMPLETED"}, headers={"Content-Encoding": "br"}),
}


@pytest.mark.parametrize("act", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_what_says_nothing_about_the_job_is_trouble(act: Act, open_queue: OpenQueue) -> None:
    async with serving(act) as server:
        queue = open_queue(server.url, read_seconds=0.2)
        assert isinstance(await queue.status(REF), Trouble)
        assert isinstance(await queue.cancel(REF), Trouble | Gone)


async def test_every_other_code_on_a_status_read_is_trouble_that_keeps_its_code(
    open_queue: OpenQueue,
) -> None:
    async with serving(Act()) as server:
        queue = open_queue(server.url)
        for code in range(200, 600):
            if code in {200, 202, 404, 410}:
                continue
            server.act = answer(code, {"detail": "x", "status": "COMPLETED"}, headers={"Retry-After": "9"})
            outcome = await queue.status(REF)
            assert isinstance(outcome, Trouble)
            assert (outcome.code, outcome.retry_after_seconds) == (code, 9)


async def test_a_refused_connection_is_trouble(open_queue: OpenQueue) -> None:
    queue = open_queue("http://127.0.0.1:1")
    assert isinstance(await queue.status(REF), Trouble)
    assert isinstance(await queue.result(REF, WELL), Trouble)
    assert isinstance(await queue.cancel(REF), Trouble)


# Result


async def test_a_video_is_handed_on_as_it_is(open_queue: OpenQueue) -> None:
    act = answer(200, VIDEO | {"seed": None, "scale": 0.1}, headers={"x-fal-billable-units": "5"})
    assert await read_result(act, open_queue) == Succeeded(
        VIDEO | {"seed": None, "scale": 0.1}, BillableUnits("5", Decimal(5))
    )


async def test_what_postgres_cannot_hold_is_replaced(open_queue: OpenQueue) -> None:
    raw = b'{"a\\u0000":["b\\u0000c", {"d": 1e999}], "e": "\\ud83d\\ude00"}'
    outcome = await read_result(answer(200, raw), open_queue)
    assert outcome == Succeeded({"a\ufffd": ["b\ufffdc", {"d": None}], "e": "😀"}, None)


UNITS = [
    ("0", Decimal(0)),
    ("5", Decimal(5)),
    (" 3.008 ", Decimal("3.008")),
    ("0.0", Decimal(0)),
    ("-1", None),
    ("+1", None),
    ("1e3", None),
    ("NaN", None),
    ("Infinity", None),
    ("", None),
    ("five", None),
    ("5, 5", None),
    ("9" * 13, None),
    ("5.", None),
    (".5", None),
    ("0x5", None),
]


@pytest.mark.parametrize(("text", "units"), UNITS)
async def test_billable_units_are_a_plain_number_or_odd(
    text: str, units: Decimal | None, open_queue: OpenQueue
) -> None:
    outcome = await read_result(answer(200, VIDEO, headers={"x-fal-billable-units": text}), open_queue)
    assert isinstance(outcome, Succeeded)
    assert outcome.billable == BillableUnits(text.strip(), units)


Mark = tuple[Completed, dict[str, str]]
MARKS: dict[str, Mark] = {
    "none": (WELL, {}),
    "another's id": (WELL, {"x-fal-request-id": "another"}),
    "status error": (BADLY, {}),
    "status error_type": (TYPED, {}),
    "error type": (WELL, {"X-Fal-Error-Type": "bad_request"}),
    "units": (WELL, {"x-fal-billable-units": "0"}),
    "our id": (WELL, OURS),
}
SHAPES: dict[str, object] = {
    "text": {"detail": "no"},
    "list": {"detail": [{"loc": ["body", "prompt"], "msg": "too long", "type": "value_error"}]},
    "object": {"detail": {"message": "no"}},
    "not found": {"status": "NOT_FOUND"},
    "html": HTML,
    "empty": b"",
    "other": {"message": "no"},
    "null": {"detail": None},
}


def expected(code: int, shape: str, mark: str) -> type[ResultOutcome]:
    """DESIGN.md, section 3, "Whose error is it?", as a table."""
    has_detail = shape in {"text", "list", "object"}
    marked = mark not in {"none", "another's id"}
    if code in {401, 403, 408, 429}:
        return Failed if has_detail and mark == "status error" else Trouble
    if code >= 400 and has_detail and marked:
        return Failed
    if code == 200 and shape in {"text", "list"} and mark in {"status error", "status error_type"}:
        return Failed
    if code == 200 and shape not in {"html", "empty"}:
        return Succeeded
    if code in {404, 410} and (has_detail or shape == "not found"):
        return Gone
    return Trouble


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mark", MARKS)
async def test_whose_error_a_result_is(shape: str, mark: str, open_queue: OpenQueue) -> None:
    completed, headers = MARKS[mark]
    codes = [
        200,
        201,
        202,
        204,
        301,
        302,
        307,
        308,
        400,
        401,
        402,
        403,
        404,
        405,
        408,
        409,
        410,
        413,
        422,
        429,
    ]
    async with serving(Act()) as server:
        queue = open_queue(server.url)
        for code in [*codes, 451, 499, 500, 501, 502, 503, 504, 520, 599]:
            server.act = answer(code, SHAPES[shape], headers=headers)
            outcome = await queue.result(REF, completed)
            assert type(outcome) is expected(code, shape, mark), (code, outcome)


async def test_a_result_asked_for_too_early_is_not_yet(open_queue: OpenQueue) -> None:
    act = answer(400, {"detail": "Request is still in progress"}, headers=OURS)
    assert await read_result(act, open_queue) == NotYet()


@pytest.mark.parametrize("act", [UNREADABLE[name] for name in ("closes", "resets", "hangs", "half the body", "brotli")])
async def test_a_result_that_was_lost_is_trouble(act: Act, open_queue: OpenQueue) -> None:
    assert isinstance(await read_result(act, open_queue, BADLY), Trouble)


async def test_a_result_that_is_too_long_is_trouble(open_queue: OpenQueue) -> None:
    act = answer(200, b'{"x":"' + b"x" * 20_000_000 + b'"}')
    assert isinstance(await read_result(act, open_queue), Trouble)


async def test_an_echo_of_fifteen_megabytes_is_read_and_dropped(open_queue: OpenQueue) -> None:
    image = "data:image/png;base64," + "A" * 15_000_000
    body = {"detail": [{"loc": ["body", "image_url"], "msg": "no", "type": "image_load_error", "input": image}]}
    outcome = await read_result(answer(422, body, headers={"x-fal-billable-units": "0"}), open_queue)
    assert isinstance(outcome, Failed)
    assert (outcome.error.type, outcome.error.detail) == ("image_load_error", "image_url: no")
    assert outcome.billable == BillableUnits("0", Decimal(0))
    assert len(repr(outcome)) < 1000


async def failed(act: Act, open_queue: OpenQueue, completed: Completed = WELL) -> Failed:
    outcome = await read_result(act, open_queue, completed)
    assert isinstance(outcome, Failed)
    return outcome


async def test_a_missed_start_deadline_is_told(open_queue: OpenQueue) -> None:
    body = {"detail": "Request timed out", "error_type": "request_timeout"}
    headers = OURS | {"X-Fal-Request-Timeout-Type": "user"}
    assert (await failed(answer(504, body, headers=headers), open_queue)).start_deadline
    assert not (await failed(answer(504, body, headers=OURS), open_queue)).start_deadline
    assert not (await failed(answer(500, body, headers=headers), open_queue)).start_deadline


async def test_a_canceled_request_is_told(open_queue: OpenQueue) -> None:
    body = {"detail": "Request was cancelled", "error_type": "client_cancelled"}
    assert (await failed(answer(499, body), open_queue, TYPED)).canceled
    assert (
        await failed(answer(499, {"detail": "x"}, headers={"x-fal-error-type": "client_cancelled"}), open_queue)
    ).canceled
    assert (await failed(answer(499, {"detail": "x"}), open_queue, Completed(None, "client_cancelled"))).canceled
    assert not (await failed(answer(499, {"detail": "x"}, headers=OURS), open_queue)).canceled
    assert not (await failed(answer(500, body), open_queue, BADLY)).canceled


@pytest.mark.parametrize(
    ("code", "headers", "retryable"),
    [
        (422, {}, False),
        (500, {}, True),
        (500, {"X-Fal-Retryable": "false"}, False),
        (400, {"X-Fal-Retryable": "True"}, True),
        (500, {"X-Fal-Needs-Retry": "0"}, False),
        (422, {"X-Fal-Needs-Retry": "1"}, True),
        (500, {"X-Fal-Retryable": "perhaps", "X-Fal-Needs-Retry": "0"}, False),
    ],
)
async def test_retryable_is_what_fal_says(
    code: int, headers: dict[str, str], *, retryable: bool, open_queue: OpenQueue
) -> None:
    outcome = await failed(answer(code, {"detail": "x"}, headers=headers | OURS), open_queue)
    assert outcome.error.retryable is retryable


ERRORS: list[tuple[object, Completed, tuple[str | None, str, str]]] = [
    ({"detail": "no", "error_type": "bad_request"}, WELL, ("bad_request", "Bad request", "no")),
    ({"detail": "no"}, Completed("x", "internal_error"), ("internal_error", "Internal error", "no")),
    ({"detail": "no"}, WELL, (None, "fal answered 400", "no")),
    ({"detail": []}, BADLY, (None, "fal answered 400", "Invalid status code: 422")),
    ({"detail": [[], 5, "odd", {"msg": 7, "loc": "x"}]}, WELL, (None, "fal answered 400", "7; odd")),
    ({"detail": {"input": "secret", "a": "b"}}, WELL, (None, "fal answered 400", '{"a":"b"}')),
    ({"detail": "two\nlines\u0000\u202e"}, WELL, (None, "fal answered 400", "two lines")),
    (
        {"detail": [{"loc": ["body", "a", 0], "msg": "m", "type": "value_error.missing"}]},
        WELL,
        ("value_error.missing", "Value error: missing", "a.0: m"),
    ),
]


@pytest.mark.parametrize(("body", "completed", "told"), ERRORS)
async def test_both_error_shapes_become_one(
    body: object, completed: Completed, told: tuple[str | None, str, str], open_queue: OpenQueue
) -> None:
    error = (await failed(answer(400, body, headers=OURS), open_queue, completed)).error
    assert (error.type, error.title, error.detail) == told


async def test_an_error_body_of_any_size_is_bounded(open_queue: OpenQueue) -> None:
    body = {"detail": [{"msg": "x" * 900, "ctx": {str(n): ["y" * 90] * 60 for n in range(60)}}] * 40}
    error = (await failed(answer(422, body, headers=OURS), open_queue)).error
    assert len(repr(error)) < 5000


# Cancel


CANCELS: list[tuple[Act, CancelOutcome]] = [
    (answer(202, {"status": "CANCELLATION_REQUESTED"}), CancelRequested()),
    (answer(200, {"status": "CANCELLATION_REQUESTED"}), CancelRequested()),
    (answer(200, {"status": "OK"}), CancelDone()),
    (answer(200, {"success": True}), CancelRequested()),
    (answer(400, {"status": "ALREADY_COMPLETED"}), AlreadyCompleted()),
    (answer(404, {"status": "NOT_FOUND"}), Gone(404)),
    (answer(404, {"detail": "x"}), Gone(404)),
    (answer(200, {"success": False}), Trouble("fal answered 200", 200)),
    (answer(202, {"status": "OK"}), Trouble("fal answered 202", 202)),
    (answer(400, {"detail": "no"}), Trouble("fal answered 400: no", 400)),
    (answer(404, HTML), Trouble("fal answered 404: not a JSON object", 404)),
    (answer(405, b""), Trouble("fal answered 405: an empty body", 405)),
    (answer(401, {"detail": "no"}), Trouble("fal answered 401: no", 401)),
]


@pytest.mark.parametrize(("act", "outcome"), CANCELS)
async def test_a_cancel_is_read_by_code_and_body(act: Act, outcome: CancelOutcome, open_queue: OpenQueue) -> None:
    async with serving(act) as server:
        assert await open_queue(server.url).cancel(REF) == outcome
    assert server.heard[0].line == f"PUT {REF.cancel_path} HTTP/1.1"
    assert server.heard[0].body == b""


async def test_reads_share_a_connection_and_carry_the_key(open_queue: OpenQueue) -> None:
    async with serving(answer(202, {"status": "IN_PROGRESS"}, headers={"Set-Cookie": "a=b"})) as server:
        # by name: aiohttp would keep no cookie of an address
        queue = open_queue(server.url.replace("127.0.0.1", "localhost"))
        for _ in range(3):
            assert await queue.status(REF) == InProgress()
    assert server.connections == 1
    assert server.heard[0].line == f"GET {REF.status_path}?logs=0 HTTP/1.1"
    assert all(heard.headers["authorization"] == f"Key {FAL_KEY}" for heard in server.heard)
    assert not any("cookie" in heard.headers for heard in server.heard)
