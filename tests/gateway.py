"""A gateway on loopback in the test's own event loop, and the people who use it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings
from app.web.connection import Connection
from app.wiring import Wiring, utc_now
from tests.conftest import ADMIN_KEY

LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=1)
"""Of a client that gives up an idle connection before uvicorn closes it, after 5 s: else it may just be using it."""

ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


@dataclass(frozen=True)
class Person:
    """A user with a key."""

    user_id: str
    team_id: str
    key_id: str
    secret: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}


class Gateway:
    """A running gateway as a test sees it: over HTTP, and from within where a test must."""

    def __init__(self, app: FastAPI, url: str, client: httpx.AsyncClient) -> None:
        self.app = app
        self.url = url
        self.client = client
        self._made = 0

    @property
    def wiring(self) -> Wiring:
        wiring: Wiring = self.app.state.wiring
        return wiring

    async def admin(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """A call with ADMIN_KEY that must succeed."""
        answer = await self.client.request(method, path, json=body or None, headers=ADMIN)
        assert answer.is_success, answer.text
        return dict(answer.json()) if answer.content else {}

    async def make_team(self) -> str:
        self._made += 1
        return str((await self.admin("POST", "/v1/teams", name=f"team {self._made}"))["id"])

    async def make_person(self, role: str = "member", team_id: str | None = None) -> Person:
        self._made += 1
        team_id = team_id or await self.make_team()
        user = await self.admin("POST", "/v1/users", name=f"user {self._made}", team_id=team_id, role=role)
        key = await self.admin("POST", "/v1/keys", name="key", user_id=user["id"])
        return Person(user["id"], team_id, key["id"], key["secret"])

    async def set_quota(self, maximum: str | int, metric: str = "usd", window: str | None = "day", **scope: Any) -> str:
        body = {"scope": "organization", "metric": metric, "window": window, "maximum": maximum, **scope}
        return str((await self.admin("POST", "/v1/quotas", **body))["id"])

    async def submit(self, person: Person, prompt: str = "a boat", **fields: Any) -> httpx.Response:
        """Ask for a text-to-video."""
        headers = person.headers | fields.pop("headers", {})
        return await self.client.post("/v1/text-to-video", json={"prompt": prompt, **fields}, headers=headers)

    async def job(self, person: Person, job_id: str, *, wait: int | None = None) -> dict[str, Any]:
        """Read a job, waiting for its end if asked."""
        headers = person.headers | ({"Prefer": f"wait={wait}"} if wait else {})
        answer = await self.client.get(f"/v1/jobs/{job_id}", headers=headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@asynccontextmanager
async def run_gateway(
    settings: Settings,
    *,
    clock: Callable[[], datetime] = utc_now,
    work: bool = True,
    listener: socket.socket | None = None,
) -> AsyncIterator[Gateway]:
    """Serve until the block ends. Without `work` nothing is sent to fal: jobs stay `queued`.

    On a `listener` of the caller's, whose address the settings can name; else on a free port.
    """
    app = create_app(settings, clock=clock, work=work)
    app.state.failures.most = 10**9  # whoever tests what a wrong key is told sends many
    config = uvicorn.Config(
        app,
        port=0,
        http=Connection,
        log_config=None,
        timeout_graceful_shutdown=2,
        forwarded_allow_ips=settings.forwarded_allow_ips,
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(None if listener is None else [listener]))
    while not server.started:
        await asyncio.sleep(0.01)
        if serving.done():
            await serving
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, limits=LIMITS) as client:
        try:
            yield Gateway(app, url, client)
        finally:
            server.should_exit = True
            await serving
