"""Each line of the log says which request and which job it is about."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from app import logs
from app.fal import Unknown
from tests.jobs.hand import Hand


@pytest.fixture
def lines() -> Iterator[Any]:
    """Sets up the log as the gateway does, and returns what it wrote."""
    root, written = logging.getLogger(), io.StringIO()
    handlers, level = list(root.handlers), root.level

    def begin(layout: str) -> io.StringIO:
        logs.set_up_logs(level="info", layout=layout, secrets=["a-secret"])
        for handler in root.handlers:
            assert isinstance(handler, logging.StreamHandler)
            handler.setStream(written)
        return written

    yield begin
    root.handlers, root.level = handlers, level


def _told(written: io.StringIO, words: str) -> dict[str, Any]:
    (line,) = [line for line in written.getvalue().splitlines() if words in line]
    return dict(json.loads(line))


async def test_a_line_of_the_loops_names_its_job(hands: Hand, lines: Any) -> None:
    written = lines("json")
    job_id = await hands.submit()
    logs.job_id.set(None)  # the request's own: here it ran in the test's context
    hands.fal.answer("submit", Unknown("ReadTimeout", None))
    await hands.send()
    assert _told(written, "answer to its submit was lost")["job_id"] == job_id
    assert _told(written, "fal is degraded")["job_id"] == job_id
    await hands.resolve(job_id, outcome="void")


async def test_a_failing_request_names_itself_and_its_job(
    hands: Hand, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("a-secret was in it")

    written = lines("json")
    monkeypatch.setattr(hands.rooms.reader, "read", fail)
    job_id = f"job_{'0' * 32}"
    answer = await hands.gateway.client.get(f"/v1/jobs/{job_id}", headers=hands.person.headers)
    assert answer.status_code == 500
    line = _told(written, "failed")
    assert (line["job_id"], line["request_id"]) == (job_id, answer.headers["x-request-id"])
    assert "a-secret" not in written.getvalue()


@pytest.mark.parametrize(
    ("message", "shown"),
    [("all is well", "all is well (req_1 job_2)"), ("job_2 is well", "job_2 is well (req_1)")],
    ids=str,
)
def test_the_text_names_what_its_message_does_not(lines: Any, message: str, shown: str) -> None:
    written = lines("text")
    tokens = [(logs.request_id, logs.request_id.set("req_1")), (logs.job_id, logs.job_id.set("job_2"))]
    logging.getLogger("falgate").info(message)
    for about, token in tokens:
        about.reset(token)
    logging.getLogger("falgate").info("of nothing")
    first, second = written.getvalue().splitlines()
    assert first.endswith(f": {shown}")
    assert second.endswith(": of nothing")
