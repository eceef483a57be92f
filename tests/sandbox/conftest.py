"""One sandbox for all these tests, swept after each."""

from collections.abc import Iterator

import pytest

from .running import SPEED, Sandbox, run_sandbox


@pytest.fixture(scope="package")
def shared_sandbox() -> Iterator[Sandbox]:
    with run_sandbox("--speed", str(SPEED)) as (sandbox, _):
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    yield shared_sandbox
    shared_sandbox.http.delete("/_sandbox/faults")
    shared_sandbox.http.delete("/_sandbox/requests")
    shared_sandbox.http.delete("/_sandbox/webhooks")
    shared_sandbox.http.post("/_sandbox/list", json={"lag_seconds": 0})
    shared_sandbox.http.delete("/_sandbox/prices")
    shared_sandbox.http.post("/_sandbox/account", json={"user_id": "sandbox-user"})
    shared_sandbox.set_clock(speed=SPEED)


@pytest.fixture(scope="package")
def shared_limited() -> Iterator[Sandbox]:
    with run_sandbox("--concurrency", "2", "--speed", str(SPEED)) as (sandbox, _):
        yield sandbox


@pytest.fixture
def limited(shared_limited: Sandbox) -> Iterator[Sandbox]:
    """A sandbox that renders two jobs at once."""
    yield shared_limited
    shared_limited.http.delete("/_sandbox/requests")
    shared_limited.set_clock(speed=SPEED)
