"""fal's own Python client, unmodified and over TLS, sees in the gateway what it sees in fal."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway import Gateway, Person

from .certificate import Certificate
from .comparing import Meant, differences
from .python_scenarios import OF_THE_GATEWAY, SCENARIOS
from .serving import Watched, serve
from .stage import PYTHON, Fal, run_fal, run_program

pytestmark = pytest.mark.asyncio(loop_scope="package")
PROGRAM = "tests/clients/python_scenarios.py"
FLAVOURS = ("", "_async")

MEANT: list[Meant] = []


@dataclass(frozen=True)
class Transcripts:
    """What the client saw on each side, by scenario; and the gateway's own view of the callers with a case of theirs."""

    fal: dict[str, Any]
    gateway: dict[str, Any]
    watched: Watched
    poor: Person
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
    ann, poor, cut = [await gateway.make_person() for _ in range(3)]
    await gateway.set_quota("1.00", scope="user", scope_id=poor.user_id)
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
            "TEST_CUT_KEY": cut.secret,
        }
        done = await asyncio.gather(
            run_program(PYTHON, PROGRAM, **of_fal),
            run_program(PYTHON, PROGRAM, **of_gateway),
        )
        yield Transcripts(done[0].transcript, done[1].transcript, watched, poor, cut)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_same_as_against_fal(transcripts: Transcripts, name: str, flavour: str) -> None:
    found = differences(transcripts.fal[name + flavour], transcripts.gateway[name + flavour])
    assert found == {meant.place: (meant.fal, meant.gateway) for meant in MEANT if meant.scenario == name}
