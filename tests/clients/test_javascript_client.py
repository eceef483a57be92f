"""fal's own JavaScript client, unmodified, sees in the gateway what it sees in fal."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway import Gateway, Person

from .comparing import Meant, differences
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

MEANT: list[Meant] = []


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
    found = differences(transcripts.fal["middleware"][name], transcripts.gateway[way][name])
    assert found == {meant.place: (meant.fal, meant.gateway) for meant in MEANT if meant.scenario == name}


async def test_every_scenario_is_compared(transcripts: Transcripts) -> None:
    assert sorted(transcripts.fal["middleware"]) == sorted([*SCENARIOS, *UPLOADS])
    assert sorted(transcripts.gateway["proxy"]) == sorted([*SCENARIOS, *UPLOADS, "no quota"])


async def test_a_string_as_proxy_url_is_passed_over_in_node(transcripts: Transcripts) -> None:
    assert transcripts.fal["calledWithStringProxy"] == [
        "https://queue.fal.run/fal-ai/kling-video/v2.1/master/text-to-video"
    ]
