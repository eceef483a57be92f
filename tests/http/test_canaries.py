"""Every secret of a gateway, through a busy hour of it: in no log, answer, page, row, exception or repr."""

import asyncio
import hashlib
import io
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import asyncpg
import httpx
import pytest
import pytest_asyncio

from app import logs
from app.accounts.key_secrets import new_secret
from app.db import Database
from app.embedded import EmbeddedPostgres
from app.ids import show
from tests.conftest import FAL_KEY
from tests.gateway import Gateway, run_gateway
from tests.sandbox.running import Sandbox

from .conftest import fresh_database, working_settings
from .world import IMAGE, PNG, TEXT, find_in_rows

pytestmark = pytest.mark.asyncio(loop_scope="package")

Call = Callable[..., Awaitable[dict[str, object]]]

PASSWORD = "canary-database-password-0001"
SECRETS = {
    "ADMIN_KEY": "canary-admin-key-00000000001",
    "FAL_ADMIN_KEY": "canary-fal-admin-id:canary-fal-admin-secret",
    "SECRET_KEY": "canary-secret-key-000000000000000000001",
    "METRICS_KEY": "canary-metrics-key-01",
}
ALERT_URL = "https://hooks.slack.com/services/canary-of-an-alert"
CANARIES = (*SECRETS.values(), FAL_KEY, FAL_KEY.partition(":")[2], "canary-fal-admin-secret", PASSWORD)


@pytest_asyncio.fixture(loop_scope="package")
async def guarded(postgres: EmbeddedPostgres, template: str, fal: Sandbox) -> AsyncIterator[Gateway]:
    """A gateway with every secret that there is."""
    url = fresh_database(postgres, template)
    with_password = url.replace("@/", f":{PASSWORD}@/")
    assert PASSWORD in with_password
    async with run_gateway(working_settings(with_password, fal, **SECRETS)) as running:
        yield running


@contextmanager
def logged(layout: str, secrets: tuple[str, ...]) -> Iterator[io.StringIO]:
    """All that the process logs, as `falgate serve` writes it at its most talkative."""
    root, written = logging.getLogger(), io.StringIO()
    before, level = root.handlers[:], root.level
    logs.set_up_logs(level="debug", layout=layout, secrets=secrets)
    for handler in root.handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(written)
    try:
        yield written
    finally:
        root.handlers[:] = before
        root.setLevel(level)


@pytest.mark.parametrize("layout", ["text", "json"])
async def test_no_secret_comes_out_anywhere(layout: str, guarded: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = guarded.wiring.settings
    assert set(SECRETS.values()) <= set(settings.secrets)
    admin = {"Authorization": f"Bearer {SECRETS['ADMIN_KEY']}"}
    http = guarded.client
    told: list[str] = []

    async def call(method: str, path: str, headers: dict[str, str], **more: object) -> dict[str, object]:
        answer = await http.request(method, path, headers=headers, **more)  # type: ignore[arg-type]
        told.append(f"{answer.headers}{answer.text}")
        return dict(answer.json()) if "json" in answer.headers.get("content-type", "") else {}

    with logged(layout, settings.secrets) as written:
        team = await call("POST", "/v1/teams", admin, json={"name": "Film"})
        user = await call("POST", "/v1/users", admin, json={"name": "Ann", "team_id": team["id"], "role": "admin"})
        made = await http.post("/v1/keys", json={"name": "key", "user_id": user["id"]}, headers=admin)
        rotated = await http.post(f"/v1/keys/{made.json()['id']}/rotate", json={"grace_seconds": 60}, headers=admin)
        secrets = [made.json()["secret"], rotated.json()["secret"]]
        ann = {"Authorization": f"Bearer {secrets[1]}"}
        for secret in secrets:
            mine = {"Authorization": f"Bearer {secret}"}
            job = await call("POST", TEXT, mine | {"Prefer": "wait=20"}, json={"prompt": "a boat"})
            assert job["status"] == "succeeded", job
            for path in ("", "/entries", "/events"):
                await call("GET", f"/v1/jobs/{job['id']}{path}", mine)
        await call("POST", IMAGE, ann, json={"prompt": "x", "image_url": PNG})
        for path in (
            "/v1/me",
            "/v1/jobs",
            "/v1/keys",
            "/v1/users",
            "/v1/teams",
            "/v1/quotas",
            "/v1/prices",
            "/v1/models",
            "/v1/prices/check",
            "/v1/freezes",
            "/v1/months",
            "/v1/reports/spend?group_by=team,user,key,end_user,tag.x",
            "/v1/reports/spend?format=csv&group_by=key",
            "/v1/reports/refusals?group_by=user,code",
            "/v1/reports/reconciliation",
            "/v1/reports/reconciliation?format=csv",
            "/v1/reports/jobs.csv",
            "/v1/reports/jobs.csv?date=charged",
            "/v1/reports/focus.csv",
        ):
            await call("GET", path, ann)
        alerts = {"alert_url": ALERT_URL, "alert_shape": "slack"}
        set_up = await http.patch(f"/v1/teams/{team['id']}", json=alerts, headers=ann)
        assert set_up.json()["alert_url"] == ALERT_URL
        await call("GET", "/v1/audit-log", admin)
        for path in ("/v1/audit-log", "/openapi.json", "/docs", "/problems", "/health/ready", "/"):
            await call("GET", path, admin)
        tokens = [await _use_token(http, ann, call, scope) for scope in ("submit", "read")]
        await call("GET", "/metrics", {"Authorization": f"Bearer {SECRETS['METRICS_KEY']}"})
        for canary in (*CANARIES, *secrets, *tokens, new_secret()):  # in the wrong place it is told to nobody either
            for headers in ({"Authorization": canary}, {"Authorization": f"Key {canary}"}, ann | {"X-Canary": canary}):
                await call("GET", "/v1/freezes", headers)
                await call("GET", f"/v1/reports/spend?group_by=tag.{canary}&since={canary}", headers)
                await call("GET", f"/v1/reports/jobs.csv?model={canary}&date={canary}", headers)
                await call("POST", "/v1/freeze", headers, json={"scope": canary, "note": {"x": canary}})
                await call("POST", TEXT, headers, json={"prompt": "x", "duration": canary, "tags": {"x": [canary]}})
                await call("POST", "/v1/teams", headers, content=canary)
                await call("GET", f"/v1/jobs/job_{'0' * 32}/events?token={canary}", headers)
                await call("POST", "/fal/proxy", headers | {"x-fal-target-url": f"https://{canary}@queue.fal.run/x"})
            logging.getLogger("falgate").debug("%s", {"key": canary})
        await _break(guarded, ann, tokens, monkeypatch, call)
        shown = await _repr_of(guarded)
    log = written.getvalue()
    assert log.count("planted") >= 2
    assert layout == "text" or log.startswith("{")
    own = "".join(told)
    for canary in (*CANARIES, *secrets, *tokens):
        assert canary not in log
        assert canary not in shown
        assert canary not in own
        assert await find_in_rows(guarded, canary) == []
    assert ALERT_URL not in own + log + shown
    assert await find_in_rows(guarded, ALERT_URL) == ["teams"]
    for secret in secrets:
        assert await find_in_rows(guarded, hashlib.sha256(secret.encode()).hexdigest()) == ["key_secrets"]


async def _use_token(http: httpx.AsyncClient, ann: dict[str, str], call: Call, scope: str) -> str:
    """What a browser does with a token; the answer that makes it is the one that shows it."""
    job = await call("POST", TEXT, ann, json={"prompt": "a boat"})
    body = {"scope": scope, "job_id": job["id"] if scope == "read" else None}
    token = str((await http.post("/v1/tokens", json=body, headers=ann)).json()["token"])
    bearer = {"Authorization": f"Bearer {token}"}
    await call("POST", TEXT, bearer, json={"prompt": "a boat"})
    await call("GET", f"/v1/jobs/{job['id']}", bearer)
    await call("GET", f"/v1/jobs/{job['id']}/events?token={token}", {})
    for path in (f"/v1/jobs/{job['id']}/events?token={token}x", f"/v1/me?token={token}", f"/{token}?token={token}"):
        await call("GET", path, {})
    return token


async def _break(
    guarded: Gateway, ann: dict[str, str], tokens: list[str], monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    """Faults whose words hold every secret, and a database that cannot be reached."""

    async def breaks(_: object) -> None:
        raise RuntimeError("planted", *CANARIES, *tokens, ann["Authorization"])

    async def is_away(_: object) -> None:
        raise asyncpg.InvalidPasswordError(f"planted {PASSWORD}") from OSError(*CANARIES)

    assert guarded.wiring.tokens is not None
    about = guarded.wiring.tokens.read(tokens[1], now=guarded.wiring.clock())[1].job_id
    assert about is not None
    for fault in (breaks, is_away):
        with monkeypatch.context() as patch:
            patch.setattr(guarded.app.state.rooms.reader, "read", fault)
            await call("GET", f"/v1/jobs/job_{'0' * 32}", ann)
            await call("GET", f"/v1/jobs/{show('job', about)}/events?token={tokens[1]}", {})
            patch.setattr(guarded.app.state.rooms.submits, "submit", fault)
            await call("POST", TEXT, ann, json={"prompt": "x"})


async def _repr_of(guarded: Gateway) -> str:
    """What a debugger, an error tracker or an f-string would show."""
    wiring, rooms = guarded.wiring, guarded.app.state.rooms
    things: list[object] = [
        wiring, wiring.settings, wiring.db, wiring.fal, wiring.platform, wiring.settings.model_dump(),
        wiring.db._engine, wiring.db._engine.url, wiring.db._engine.pool, guarded.app, rooms, *vars(rooms).values(),
        *vars(wiring.fal).values(), *vars(wiring.platform).values(), guarded.app.state._state,
    ]  # fmt: skip
    async with wiring.db.plain() as plain:
        things.append(plain)
    nowhere = Database(f"postgresql://falgate:{PASSWORD}@127.0.0.1:9/falgate")
    try:
        await nowhere.connect()
    except OSError as error:
        things += [error, error.args, nowhere]
    await asyncio.sleep(0)
    return "\n".join(f"{thing!r}\n{thing}" for thing in things)
