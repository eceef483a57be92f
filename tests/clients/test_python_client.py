"""fal's own Python client, unmodified and over TLS, sees in the gateway what it sees in fal."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from app.ids import parse
from tests.gateway import Gateway, Person

from .certificate import Certificate
from .comparing import ABSENT, HINTS_NOT_PASSED_ON, OURS, Meant, differences, meant_in
from .python_scenarios import AGAINST_THE_CLOCK, SCENARIOS
from .serving import Watched, serve
from .stage import PYTHON, Fal, run_fal, run_program

pytestmark = pytest.mark.asyncio(loop_scope="package")
PROGRAM = "tests/clients/python_scenarios.py"
FLAVOURS = ("", "_async")

_OWN_PROBLEM = {"error_type": (None, OURS), "json.error_type": (ABSENT, OURS)}
_OWN_HEADER = {"response_headers.x-fal-error-type": (ABSENT, OURS)}
_UNKNOWN_ID = '{"status":"NOT_FOUND"}'
_DONE = '{"status":"ALREADY_COMPLETED"}'
_STRANGER = "No user found for Key ID and Secret"
_PATH = "Path /fal-ai/no-such-model not found"

MEANT = [
    Meant(
        ("cancel in the queue",),
        {"canceled again.message": (_DONE, OURS), "canceled again.json.detail": (ABSENT, OURS)},
        "a body with a sentence beside fal's `status`: the client shows `detail`, or else the whole body",
    ),
    Meant(
        ("cancel what is done",),
        {"raised.message": (_DONE, OURS), "raised.json.detail": (ABSENT, OURS)},
        "the same",
    ),
    Meant(
        ("unknown id",),
        {
            place: pair
            for call in ("status", "result", "cancel")
            for place, pair in {
                f"{call}.message": (_UNKNOWN_ID, OURS),
                f"{call}.json.detail": (ABSENT, OURS),
            }.items()
        },
        "the same",
    ),
    Meant(
        ("wrong key",),
        {
            f"{call}.{place}": pair
            for call in ("submit", "status")
            for place, pair in {
                **_OWN_PROBLEM,
                **_OWN_HEADER,
                "message": (_STRANGER, OURS),
                "json.detail": (_STRANGER, OURS),
            }.items()
        },
        "whose key it is not is another's: the sentence and the type are the gateway's",
    ),
    Meant(
        ("unknown endpoint",),
        {
            f"raised.{place}": pair
            for place, pair in {
                **_OWN_PROBLEM,
                **_OWN_HEADER,
                "response_headers.x-fal-billable-units": ("0", ABSENT),
                "message": (_PATH, OURS),
                "json.detail": (_PATH, OURS),
            }.items()
        },
        "the sentence names the endpoints that there are",
    ),
    Meant(
        ("options",),
        {
            **HINTS_NOT_PASSED_ON,
            "reached fal.x-fal-store-io": ("0", ABSENT),
            "reached fal.x-fal-tags": ("film=boat", ABSENT),
        },
        "what goes to fal under FAL_KEY is the gateway's to say; the tags are kept on the job",
    ),
]


@dataclass(frozen=True)
class Transcripts:
    """What the client saw on each side, by scenario; and the gateway's view of three callers in trouble."""

    fal: dict[str, Any]
    gateway: dict[str, Any]
    watched: Watched
    ann: Person
    poor: Person
    frozen: Person
    cut: Person


def settings_of_the_client(host: str, key: str, certificate: Certificate, prefix: str = "") -> dict[str, str]:
    """What fal documents for its client, and nothing else."""
    return {
        "FAL_KEY": key,
        "FAL_QUEUE_RUN_HOST": f"{host}{prefix}",
        "FAL_RUN_HOST": f"{host}{prefix}/run",
        "SSL_CERT_FILE": str(certificate.path),
    }


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def transcripts(
    gateway: Gateway, fal: Fal, certificate: Certificate, hook_url: str
) -> AsyncIterator[Transcripts]:
    ann, poor, frozen, cut = [await gateway.make_person() for _ in range(4)]
    await gateway.set_quota("1.00", scope="user", scope_id=poor.user_id)
    await gateway.admin("POST", "/v1/freeze", scope="key", scope_id=frozen.key_id, note="a loop")
    watched = Watched(gateway.app)
    async with run_fal(certificate) as direct, serve(watched, certificate=certificate) as host:
        of_fal = settings_of_the_client(direct.host, "test-id:test-secret", certificate) | {
            "TEST_FAL_URL": direct.url,
            "TEST_HOOK_URL": f"{hook_url}/fal",
            "TEST_WRONG_KEY": "sandbox-unknown",
        }
        of_gateway = settings_of_the_client(host, ann.secret, certificate, "/fal") | {
            "TEST_FAL_URL": fal.url,
            "TEST_HOOK_URL": f"{hook_url}/gateway",
            "TEST_WRONG_KEY": f"fg_{'0' * 49}",
            "TEST_POOR_KEY": poor.secret,
            "TEST_FROZEN_KEY": frozen.secret,
            "TEST_CUT_KEY": cut.secret,
        }
        done = await asyncio.gather(
            run_program(PYTHON, PROGRAM, environment=of_fal),
            run_program(PYTHON, PROGRAM, environment=of_gateway),
        )
        yield Transcripts(done[0].transcript, done[1].transcript, watched, ann, poor, frozen, cut)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", [*SCENARIOS, *AGAINST_THE_CLOCK])
async def test_the_same_as_against_fal(transcripts: Transcripts, name: str, flavour: str) -> None:
    found = differences(
        without_message(transcripts.fal[name + flavour]), without_message(transcripts.gateway[name + flavour])
    )
    assert found == meant_in(MEANT, name)


def without_message(said: dict[str, Any]) -> dict[str, Any]:
    """Bodies of errors have one member more than fal's, `message`, which JavaScript's client shows and Python's not."""
    return {
        label: {**value, "json": {name: each for name, each in value["json"].items() if name != "message"}}
        if is_error(value)
        else value
        for label, value in said.items()
    }


def is_error(value: Any) -> bool:
    return isinstance(value, dict) and "status_code" in value


RAISE = {
    "run refused": "FalClientHTTPError",
    "run failed": "FalClientHTTPError",
    "run not started": "FalClientHTTPError",
    "cancel what is done": "FalClientHTTPError",
    "client_timeout": "FalClientTimeoutError",
    "start_timeout": "FalClientHTTPError",
    "too short a timeout": "ValueError",
    "no prompt": "FalClientHTTPError",
    "invalid duration": "FalClientHTTPError",
    "too long a prompt": "FalClientHTTPError",
    "invalid share": "FalClientHTTPError",
    "unknown endpoint": "FalClientHTTPError",
}


async def test_nothing_raises_but_what_should(transcripts: Transcripts) -> None:
    """Else a scenario that fails alike on both sides would pass."""
    for side in (transcripts.fal, transcripts.gateway):
        raised = {name: said["raised"]["type"] for name, said in side.items() if "raised" in said}
        assert raised == {name + flavour: kind for name, kind in RAISE.items() for flavour in FLAVOURS}


async def test_every_error_says_it_in_message_too(transcripts: Transcripts) -> None:
    errors = [value for said in transcripts.gateway.values() for value in said.values() if is_error(value)]
    assert len(errors) > 50
    for error in errors:
        assert isinstance(error["json"]["message"], str)
        assert error["json"]["message"]
        assert error["response_headers"]["x-fal-request-id"]


async def test_its_tags_and_end_user_are_the_job_s(transcripts: Transcripts, gateway: Gateway) -> None:
    found = await gateway.client.get("/v1/jobs?tag.film=boat&end_user=visitor", headers=transcripts.ann.headers)
    assert [job["tags"] for job in found.json()["data"]] == [{"film": "boat"}] * len(FLAVOURS)


async def test_a_quota_or_a_freeze_that_blocks_is_one_clear_exception_sent_once(transcripts: Transcripts) -> None:
    for flavour in FLAVOURS:
        said = transcripts.gateway[f"no quota{flavour}"]
        assert sorted(said) == sorted(
            told + name for name in ("run", "submit", "subscribe") for told in ("", "frozen ")
        )
        for name, error in said.items():
            status, word = (403, "a loop") if name.startswith("frozen") else (402, "quota")
            assert (error["type"], error["status_code"]) == ("FalClientHTTPError", status), error
            assert word in error["message"]
    for refused in (transcripts.poor, transcripts.frozen):
        assert transcripts.watched.count("POST", key=refused.secret) == 3 * len(FLAVOURS)


async def test_an_answer_that_is_lost_makes_one_job_and_one_charge(transcripts: Transcripts, gateway: Gateway) -> None:
    for flavour in FLAVOURS:
        assert transcripts.gateway[f"cut off{flavour}"].keys() == {"handle", "output"}
    seen = [seen.status for seen in transcripts.watched.seen if seen.key == transcripts.cut.secret]
    assert (seen.count(0), transcripts.watched.count("POST", key=transcripts.cut.secret)) == (2, 4)
    jobs = (await gateway.client.get("/v1/jobs", headers=transcripts.cut.headers)).json()["data"]
    assert [job["charged_usd"] for job in jobs] == ["1.40", "1.40"]
    for flavour in FLAVOURS:
        request_id = transcripts.gateway[f"cut off{flavour}"]["handle"]["request_id"]
        assert request_id in {job["id"] for job in jobs}
        path = f"/v1/jobs/{request_id}/entries"
        entries = (await gateway.client.get(path, headers=transcripts.cut.headers)).json()["data"]
        assert sorted(entry["kind"] for entry in entries) == ["hold", "settle"]


async def test_twenty_callers_ask_fal_no_more_than_none(gateway: Gateway, fal: Fal, certificate: Certificate) -> None:
    """The job's own next look at fal is put off, so that only a caller's could make a call."""
    ann = await gateway.make_person()
    job = (await gateway.submit(ann, "watched by twenty [hang]")).json()
    while (await gateway.job(ann, job["id"]))["status"] != "running":
        await asyncio.sleep(0.01)
    before = -1
    while before != (before := count_reads(fal)):
        await put_off(gateway, job["id"], hours=1)
        await asyncio.sleep(0.1)
    watched = Watched(gateway.app)
    async with serve(watched, certificate=certificate) as host:
        settings = settings_of_the_client(host, ann.secret, certificate, "/fal")
        done = await run_program(PYTHON, "tests/clients/python_watchers.py", "20", job["id"], environment=settings)
    assert done.transcript["seen"] == ["InProgress"] * 200
    assert watched.count("GET", key=ann.secret) == 200
    assert count_reads(fal) <= before + 1  # one may have been on its way
    await put_off(gateway, job["id"], hours=0)
    await gateway.client.post(f"/v1/jobs/{job['id']}/cancel", headers=ann.headers)


def count_reads(fal: Fal) -> int:
    (calls,) = fal.calls_about("watched by twenty")
    return sum(calls.values())


async def put_off(gateway: Gateway, job_id: str, *, hours: int) -> None:
    """Have nobody look after the job for that long."""
    statement = "UPDATE jobs SET next_check_at = now() + make_interval(hours => $2) WHERE id = $1"
    async with gateway.wiring.db.plain() as plain:
        await plain.execute(statement, parse("job", job_id), hours)
