"""fal's own JavaScript client, unmodified, sees in the gateway what it sees in fal."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway import Gateway, Person

from .comparing import ABSENT, HINTS_NOT_PASSED_ON, OURS, Meant, differences, meant_in
from .serving import Watched, serve
from .stage import Fal, run_fal, run_program

pytestmark = pytest.mark.asyncio(loop_scope="package")
PROGRAM = "tests/clients/js/scenarios.mjs"
UPLOADS = ["upload", "blob as input"]
SCENARIOS = [
    "subscribe",
    "subscribe by stream",
    "subscribe plainly",
    "submit, status, result",
    "streamStatus",
    "run",
    "run refused",
    "cancel in the queue",
    "timeout",
    "startTimeout",
    "options",
    "webhookUrl",
    "refused",
    "no media",
    "bad request",
    "forbidden",
    "error",
    "downstream",
    "no prompt",
    "invalid duration",
    "invalid share",
    "unknown endpoint",
    "unknown id",
    "wrong key",
]

_STRANGER = "No user found for Key ID and Secret"

MEANT = [
    Meant(
        ("cancel in the queue",),
        {"canceled again.body.detail": (ABSENT, OURS)},
        "a sentence beside fal's `status`",
    ),
    Meant(
        ("unknown id",),
        {f"{call}.body.detail": (ABSENT, OURS) for call in ("status", "result", "cancel")},
        "the same",
    ),
    Meant(
        ("wrong key",),
        {f"{call}.body.detail": (_STRANGER, OURS) for call in ("submit", "status")}
        | {f"{call}.body.error_type": (ABSENT, OURS) for call in ("submit", "status")},
        "whose key it is not is another's: the sentence and the type are the gateway's",
    ),
    Meant(
        ("unknown endpoint",),
        {
            "raised.body.detail": ("Path /fal-ai/no-such-model not found", OURS),
            "raised.body.error_type": (ABSENT, OURS),
        },
        "the sentence names the endpoints that there are",
    ),
    Meant(
        ("options",),
        HINTS_NOT_PASSED_ON,
        "what goes to fal under FAL_KEY is the gateway's to say",
    ),
]


@dataclass(frozen=True)
class Transcripts:
    """What the client saw on each side, by way and scenario; and the gateway's view of one without quota."""

    fal: dict[str, Any]
    gateway: dict[str, Any]
    watched: Watched
    poor: Person


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def transcripts(gateway: Gateway, fal: Fal, hook_url: str) -> AsyncIterator[Transcripts]:
    ann, poor = [await gateway.make_person() for _ in range(2)]
    await gateway.set_quota("1.00", scope="user", scope_id=poor.user_id)
    watched = Watched(gateway.app)
    async with run_fal() as direct, serve(watched) as host:
        of_fal = {
            "TEST_KEY": "test-id:test-secret",
            "TEST_WRONG_KEY": "sandbox-unknown",
            "TEST_QUEUE_URL": direct.url,
            "TEST_RUN_URL": f"{direct.url}/run",
            "TEST_REST_URL": direct.url,
            "TEST_FAL_URL": direct.url,
            "TEST_HOOK_URL": f"{hook_url}/fal",
        }
        of_gateway = {
            "TEST_KEY": ann.secret,
            "TEST_WRONG_KEY": f"fg_{'0' * 49}",
            "TEST_POOR_KEY": poor.secret,
            "TEST_QUEUE_URL": f"http://{host}/fal",
            "TEST_RUN_URL": f"http://{host}/fal/run",
            "TEST_PROXY_URL": f"http://{host}/fal/proxy",
            "TEST_FAL_URL": fal.url,
            "TEST_HOOK_URL": f"{hook_url}/gateway",
        }
        done = await asyncio.gather(
            run_program("node", PROGRAM, environment=of_fal), run_program("node", PROGRAM, environment=of_gateway)
        )
        yield Transcripts(done[0].transcript, done[1].transcript, watched, poor)


@pytest.mark.parametrize("way", ["proxy", "middleware"])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_same_as_against_fal(transcripts: Transcripts, name: str, way: str) -> None:
    compare(transcripts, name, way)


@pytest.mark.parametrize("name", UPLOADS)
async def test_a_file_goes_to_fal_s_storage_through_the_proxy(transcripts: Transcripts, name: str) -> None:
    compare(transcripts, name, "proxy")


def compare(transcripts: Transcripts, name: str, way: str) -> None:
    found = differences(
        without_message(transcripts.fal["middleware"][name]), without_message(transcripts.gateway[way][name])
    )
    assert found == meant_in(MEANT, name)


def without_message(said: dict[str, Any]) -> dict[str, Any]:
    """fal's bodies have no `message`, so that its client shows the HTTP phrase; the gateway's have one."""
    return {
        label: {
            **value,
            "message": "",
            "body": {name: each for name, each in value["body"].items() if name != "message"},
        }
        if is_error(value)
        else value
        for label, value in said.items()
    }


def is_error(value: Any) -> bool:
    return isinstance(value, dict) and value.get("name") in {"ApiError", "ValidationError"}


RAISE = {
    "run refused": "ValidationError",
    "timeout": "Error",
    "startTimeout": "ApiError",
    "no prompt": "ValidationError",
    "invalid duration": "ValidationError",
    "invalid share": "ValidationError",
    "unknown endpoint": "ApiError",
}


async def test_nothing_raises_but_what_should(transcripts: Transcripts) -> None:
    """Else a scenario that fails alike on both sides would pass."""
    for ways in (transcripts.fal, transcripts.gateway):
        for way in ways.keys() & {"proxy", "middleware"}:
            assert {name: said["raised"]["name"] for name, said in ways[way].items() if "raised" in said} == RAISE


async def test_every_error_has_a_message_that_says_what_is_wrong(transcripts: Transcripts) -> None:
    said = [*transcripts.gateway["proxy"].values(), *transcripts.gateway["middleware"].values()]
    errors = [value for each in said for value in each.values() if is_error(value)]
    assert len(errors) > 30
    for error in errors:
        assert error["message"] == error["body"]["message"]
        assert error["message"]
        assert error["requestId"]


async def test_a_quota_that_blocks_is_one_clear_error_sent_once(transcripts: Transcripts) -> None:
    for way in ("proxy", "middleware"):
        said = transcripts.gateway[way]["no quota"]
        assert sorted(said) == ["run", "subscribe"]
        for error in said.values():
            assert (error["name"], error["status"]) == ("ApiError", 402), error
            assert "quota" in error["message"]
    assert transcripts.watched.count("POST", key=transcripts.poor.secret) == 4


async def test_every_scenario_is_compared(transcripts: Transcripts) -> None:
    assert sorted(transcripts.fal["middleware"]) == sorted([*SCENARIOS, *UPLOADS])
    assert sorted(transcripts.gateway["proxy"]) == sorted([*SCENARIOS, *UPLOADS, "no quota"])


async def test_a_string_as_proxy_url_is_passed_over_in_node(transcripts: Transcripts) -> None:
    assert transcripts.fal["calledWithStringProxy"] == [
        "https://queue.fal.run/fal-ai/kling-video/v2.1/master/text-to-video"
    ]
