"""Wrong keys by the hundred: their address is refused without a look-up, and nobody beside them is locked out."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.routing import BaseRoute, Mount

from app.accounts.key_secrets import new_secret
from app.embedded import EmbeddedPostgres
from app.web.failures import _ADDRESSES, _CREDENTIALS, WINDOW_SECONDS, Failures
from tests.conftest import ADMIN_KEY, settings_for
from tests.gateway import ADMIN, Gateway, run_gateway

from .conftest import fresh_database
from .world import TEXT, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")

METRICS_KEY = "metrics-key-of-the-tests"
MOST = 5


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def strict(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Gateway]:
    """A gateway with a METRICS_KEY that bears few failures."""
    url = fresh_database(postgres, template)
    async with run_gateway(settings_for(url, METRICS_KEY=METRICS_KEY), work=False) as running:
        running.app.state.failures.most = MOST
        yield running


@pytest_asyncio.fixture(loop_scope="package")
async def clock(strict: Gateway, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """All that was counted before is forgotten."""
    made, failures = Clock(), strict.app.state.failures
    monkeypatch.setattr(failures, "_clock", made)
    failures._windows.clear()
    return made


def bearer(secret: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}", **headers}


async def fail(gateway: Gateway, path: str = "/v1/me", secret: str = "", **headers: str) -> httpx.Response:
    return await gateway.client.get(path, headers=bearer(secret or new_secret(), **headers))


async def fill(gateway: Gateway, **headers: str) -> None:
    for _ in range(MOST):
        refusal(await fail(gateway, **headers), 401, "key-unknown")


async def test_too_many_wrong_keys_are_not_looked_at_until_the_minute_is_over(
    strict: Gateway, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(strict)
    with monkeypatch.context() as patch:
        patch.setattr(strict.wiring.db, "reading", None)  # nothing asks the database
        patch.setattr(strict.app.state.rooms.reader, "read", None)
        for path in ("/v1/me", "/v1/jobs", f"/v1/jobs/job_{'0' * 32}", "/v1/teams", "/metrics"):
            refused = await fail(strict, path)
            refusal(refused, 429, "too-many-failures")
            assert 0 < int(refused.headers["retry-after"]) <= WINDOW_SECONDS
        answer = await strict.client.post(TEXT, json={"prompt": "x"}, headers=bearer(new_secret()))
        refusal(answer, 429, "too-many-failures")
    clock.now += WINDOW_SECONDS
    refusal(await fail(strict), 401, "key-unknown")


@pytest.mark.parametrize(
    ("path", "key"), [("/v1/teams", ADMIN_KEY), ("/metrics", METRICS_KEY), ("/v1/audit-log", ADMIN_KEY)]
)
async def test_guesses_of_the_operators_keys_count_and_a_right_guess_too_late_opens_nothing(
    path: str, key: str, strict: Gateway, clock: Clock
) -> None:
    assert clock.now
    strict.app.state.failures._good.clear()
    for n in range(MOST):
        refusal(await fail(strict, path, secret=f"{key}{n}"), 401, "key-unknown")
    refusal(await fail(strict, path, secret=key), 429, "too-many-failures")


async def test_keys_that_work_go_on_working_beside_a_wrong_script(strict: Gateway, clock: Clock) -> None:
    assert clock.now
    ann, new = await strict.make_person(), await strict.make_person()
    assert (await strict.submit(ann)).status_code == 202
    await fill(strict)
    refusal(await fail(strict), 429, "too-many-failures")
    assert (await strict.submit(ann)).status_code == 202
    assert (await strict.client.get("/v1/teams", headers=ADMIN)).status_code == 200
    refusal(await strict.submit(new), 429, "too-many-failures")
    await strict.admin("DELETE", f"/v1/keys/{ann.key_id}")
    refusal(await strict.submit(ann), 401, "key-unknown")  # looked up as ever, and known no more
    refusal(await strict.submit(ann), 429, "too-many-failures")


async def test_no_page_that_asks_for_no_key_makes_a_guess_pass(strict: Gateway, clock: Clock) -> None:
    assert clock.now
    await fill(strict)
    guess = new_secret()
    for path in ("/docs", "/openapi.json", "/health/live", "/", "/problems", "/v1/nonsense"):
        assert (await fail(strict, path, secret=guess)).status_code in {200, 307, 429}
    preflight = bearer(guess, Origin="https://x.example") | {"Access-Control-Request-Method": "GET"}
    await strict.client.options("/v1/me", headers=preflight)
    refusal(await fail(strict, secret=guess), 429, "too-many-failures")


async def test_under_v1_nothing_is_answered_to_anybody(strict: Gateway) -> None:
    """The edge takes a success there for a proof of the key."""
    routes = [route for route in _routes(strict.app.router.routes) if route.path.startswith("/v1/")]
    assert len(routes) > 20
    for route in routes:
        path = route.path.replace("{id}", "job_" + "0" * 32)
        for method in route.methods:
            answer = await strict.client.request(method, path)
            if method == "HEAD":  # which has no body
                assert answer.status_code == 401
            else:
                refusal(answer, 401, "key-unknown")


def _routes(routes: list[BaseRoute]) -> list[Any]:
    found: list[Any] = []
    for route in routes:
        if hasattr(route, "methods"):
            found.append(route)
        elif not isinstance(route, Mount):
            inner = getattr(route, "original_router", None) or getattr(route, "router", None)
            found += _routes(inner.routes if inner is not None else [])
    return found


async def test_who_sends_no_key_at_all_guesses_nothing(strict: Gateway, clock: Clock) -> None:
    assert clock.now
    for _ in range(2 * MOST):
        refusal(await strict.client.get("/v1/me"), 401, "key-unknown")
    refusal(await fail(strict), 401, "key-unknown")


async def test_a_webhook_of_fals_is_never_refused_for_wrong_keys(strict: Gateway, clock: Clock) -> None:
    assert clock.now
    await fill(strict)
    for path in ("/webhooks/fal/nonsense", "/health/ready"):
        answer = await strict.client.post(path, headers=bearer(new_secret()), content=b"{}")
        assert answer.status_code not in {401, 429}


async def test_addresses_are_counted_apart_networks_of_six_together() -> None:
    clock = Clock()
    failures = Failures(most=2, clock=clock)
    for address in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.7", "fe80::1%eth0", "nonsense:", ""):
        for _ in range(2):
            assert not failures.refused_seconds((address, 1), b"Bearer x")
            failures.failed((address, 2), b"Bearer x")
        assert failures.refused_seconds((address, 3), b"Bearer y") == 60
    assert failures.refused_seconds(None, b"Bearer y") == 60
    assert failures.refused_seconds(("2001:db8::ffff:1", 1), b"Bearer y")
    assert failures.refused_seconds(("192.0.2.7", 1), b"Bearer y")
    assert not failures.refused_seconds(("192.0.2.2", 1), b"Bearer y")
    assert not failures.refused_seconds(("2001:db8:0:1::1", 1), b"Bearer y")
    clock.now += 59.5
    assert failures.refused_seconds(("192.0.2.1", 1), b"Bearer y") == 1
    clock.now += 0.5
    assert not failures.refused_seconds(("192.0.2.1", 1), b"Bearer y")


async def test_what_is_remembered_is_bounded() -> None:
    failures = Failures(most=1)
    for n in range(_ADDRESSES + 10):
        failures.failed((f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 1), b"x")
    failures.failed(("x" * 100_000, 1), b"x")
    assert len(failures._windows) == _ADDRESSES
    assert max(map(len, failures._windows)) < 100
    for n in range(3 * _CREDENTIALS):
        failures.succeeded(b"Bearer %d" % n)
    assert len(failures._good) + len(failures._good_before) <= 2 * _CREDENTIALS
    assert not failures.refused_seconds(("10.0.1.1", 1), b"Bearer %d" % (3 * _CREDENTIALS - 1))


@pytest.mark.parametrize(("trusted", "status"), [("127.0.0.1", 401), ("192.0.2.1", 429)])
async def test_behind_a_proxy_it_is_the_callers_address_that_counts(
    trusted: str, status: int, postgres: EmbeddedPostgres, template: str
) -> None:
    settings = settings_for(fresh_database(postgres, template), FORWARDED_ALLOW_IPS=trusted)
    async with run_gateway(settings, work=False) as gateway:
        gateway.app.state.failures.most = MOST
        for _ in range(MOST):
            refusal(await fail(gateway, **{"X-Forwarded-For": "203.0.113.1, 203.0.113.9"}), 401, "key-unknown")
        refusal(await fail(gateway, **{"X-Forwarded-For": "203.0.113.9"}), 429, "too-many-failures")
        other = await fail(gateway, **{"X-Forwarded-For": "203.0.113.9, 203.0.113.1"})
        assert other.status_code == status
