"""`fal.run` at the gateway: a job like any other, and its result as the answer."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from starlette.responses import Response

from app.compat import run as running
from app.compat.line import Line
from app.jobs.reads.read import Seen
from app.jobs.reads.wait import wait_until_ended
from app.problems import Unavailable
from app.tokens import Tokens, TokenUnknown
from tests.gateway import Gateway, Person
from tests.jobs.hand import until
from tests.sandbox.running import Sandbox

from .asking import IMAGE, TEXT, jobs_of, key, refusal, remembered, submit, until_remembered

pytestmark = pytest.mark.asyncio(loop_scope="package")
RUN = f"run/{TEXT}"


@pytest_asyncio.fixture(loop_scope="package")
async def bob(working: Gateway) -> Person:
    """A member of a team of his own, where jobs are put through."""
    return await working.make_person()


async def job_ids(gateway: Gateway, person: Person) -> list[str]:
    page = await gateway.client.get("/v1/jobs", headers=person.headers)
    return [job["id"] for job in page.json()["data"]]


async def test_the_answer_is_the_result_and_is_paid_for(working: Gateway, bob: Person) -> None:
    answer = await submit(working, bob, endpoint=RUN)
    assert answer.status_code == 200, answer.text
    (job_id,) = await job_ids(working, bob)
    result = await working.client.get(f"/fal/{TEXT}/requests/{job_id}", headers=key(bob))
    assert answer.json() == result.json()
    assert answer.json()["video"]["url"]
    assert answer.headers["x-fal-request-id"] == job_id
    assert answer.headers["x-fal-billable-units"] == "5"
    assert (await working.job(bob, job_id))["charged_usd"] == "1.40"


@pytest.mark.parametrize("outcome", ["refuse", "400", "500"])
async def test_a_failure_is_told_as_fal_tells_it(working: Gateway, fal: Sandbox, bob: Person, outcome: str) -> None:
    request_id = fal.start(f"a boat [{outcome}]")
    fal.wait(request_id)
    theirs = fal.call(request_id)
    ours = await submit(working, bob, {"prompt": f"a boat [{outcome}]"}, endpoint=RUN)
    assert ours.status_code == theirs.status_code
    assert ours.json()["detail"] == theirs.json()["detail"]


async def test_a_token_that_expires_while_its_call_waits_is_answered(
    working: Gateway, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job was made and is paid for."""
    has_expired = False
    read, wait = Tokens.read, wait_until_ended

    def read_unless_expired(*given: Any, **named: Any) -> Any:
        if has_expired:
            raise TokenUnknown
        return read(*given, **named)

    async def wait_and_expire(*given: Any, **named: Any) -> Seen:
        nonlocal has_expired
        seen = await wait(*given, **named)
        has_expired = True
        return seen

    monkeypatch.setattr(Tokens, "read", read_unless_expired)
    monkeypatch.setattr(running, "wait_until_ended", wait_and_expire)
    minted = await working.client.post("/v1/tokens", json={"scope": "submit"}, headers=bob.headers)
    visitor = Person(bob.user_id, bob.team_id, bob.key_id, minted.json()["token"])
    answer = await submit(working, visitor, endpoint=RUN)
    assert has_expired
    assert answer.status_code == 200, answer.text
    assert answer.json()["video"]["url"]


async def test_equal_runs_at_once_are_two(working: Gateway, bob: Person) -> None:
    answers = await asyncio.gather(submit(working, bob, endpoint=RUN), submit(working, bob, endpoint=RUN))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["x-fal-request-id"] for answer in answers}) == 2
    await until_remembered(working, bob, 0)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Line]:
    """Every line of a run that is listened to."""
    seen: list[Line] = []

    class Known(Line):
        def __init__(self, request: Any) -> None:
            super().__init__(request)
            seen.append(self)

    monkeypatch.setattr(running, "Line", Known)
    return seen


async def test_when_its_caller_hangs_up_the_job_goes_on_and_the_same_call_waits_for_it(
    gateway: Gateway, ann: Person, lines: list[Line]
) -> None:
    body = json.dumps({"prompt": "a boat"}).encode()
    parsed = urlsplit(gateway.url)
    _, writer = await asyncio.open_connection(parsed.hostname, parsed.port)
    writer.write(
        f"POST /fal/{RUN} HTTP/1.1\r\nHost: g\r\nAuthorization: Key {ann.secret}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    await until(lambda: bool(lines))
    (rooms, repeats) = gateway.app.state.rooms, gateway.app.state.repeats
    await until(lambda: bool(rooms.hub._waiting) and not repeats._locks)  # it is accepted, and waited for
    writer.transport.abort()
    await until(lambda: not rooms.hub._waiting)
    (job_id,) = await job_ids(gateway, ann)
    again = asyncio.create_task(submit(gateway, ann, endpoint=RUN))
    await until(lambda: bool(rooms.hub._waiting))
    await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
    answer = await again
    assert (answer.status_code, answer.headers["x-fal-request-id"]) == (499, job_id)
    await until_remembered(gateway, ann, 0)
    assert await jobs_of(gateway, ann) == 1


async def test_a_run_takes_a_seat_and_gives_it_back(working: Gateway, bob: Person) -> None:
    seats = working.app.state.rooms.seats
    seats.most, most = 1, seats.most
    try:
        assert (await submit(working, bob, endpoint=RUN)).status_code == 200
        assert (await submit(working, bob, endpoint=RUN)).status_code == 200
    finally:
        seats.most = most


async def test_a_restart_says_so_and_the_same_call_waits_for_the_same_job(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = gateway.app.state.rooms
    with monkeypatch.context() as patched:
        patched.setattr(rooms, "stopping", asyncio.Event())
        rooms.stopping.set()
        refusal(await submit(gateway, ann, endpoint=RUN), Unavailable.status, "unavailable")
    assert (await jobs_of(gateway, ann), await remembered(gateway, ann)) == (1, 1)


async def test_what_lasts_too_long_is_a_504_that_nobody_repeats(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def give_up(*_: object, **__: object) -> Seen:
        return Seen("{}", 1, is_ended=False)

    monkeypatch.setattr(running, "wait_until_ended", give_up)
    body = {"prompt": "a boat", "image_url": "https://e.com/a.png"}
    answer = await submit(gateway, ann, body, endpoint=f"run/{IMAGE}")
    refusal(answer, 504, "run_too_long")
    assert answer.headers["x-fal-request-timeout-type"] == "user"


async def test_a_failure_that_python_would_send_again_has_another_code(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each repeat of a direct call would be another job."""

    async def fail(*_: object) -> Response:
        return Response(b"{}", 429)

    monkeypatch.setattr(running, "_wait", fail)
    monkeypatch.setattr(running, "answer_result", fail)
    assert (await submit(gateway, ann, endpoint=RUN)).status_code == 403
