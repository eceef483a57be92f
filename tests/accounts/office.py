"""An office of two teams to test with: each role has somebody, each somebody a key, and the clock is ours."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import httpx

from app.accounts import keys, teams, users
from app.accounts.callers import COMMAND_LINE, Role
from app.accounts.last_used import LastUsed
from app.accounts.shapes import KeyBody, MadeKey, Team, TeamBody, User, UserBody
from app.db import Database, Tx
from app.ids import show
from app.main import create_app
from app.settings import Settings
from app.wiring import unwire
from tests.conftest import ADMIN_KEY

ADMIN_SECRET: Final = ADMIN_KEY
START: Final = datetime(2026, 5, 4, 12, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that stands still until told otherwise."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True, eq=False)
class Somebody:
    """A user and a key of theirs."""

    user: User
    key: MadeKey

    @property
    def user_id(self) -> str:
        return show("user", self.user.id)

    @property
    def key_id(self) -> str:
        return show("key", self.key.id)


def told(answer: httpx.Response) -> tuple[int, dict[str, Any]]:
    """All that an answer tells, but for its own number."""
    return answer.status_code, {name: value for name, value in answer.json().items() if name != "request_id"}


class Office:
    """Film has a member, a lead, finance and an admin; Print has a member and a lead."""

    def __init__(self, settings: Settings) -> None:
        self.clock = Clock()
        self.app = create_app(settings, clock=self.clock, work=False)
        self.db: Database = self.app.state.wiring.db
        self.last_used: LastUsed = self.app.state.last_used
        transport = httpx.ASGITransport(app=self.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def open(self) -> None:
        """Fill it."""
        async with self.db.begin() as tx:
            self.film = await self._make_team(tx, "Film")
            self.print = await self._make_team(tx, "Print")
            self.member = await self._make_somebody(tx, "Mia", "member", self.film)
            self.lead = await self._make_somebody(tx, "Lea", "lead", self.film)
            self.finance = await self._make_somebody(tx, "Finn", "finance", self.film)
            self.admin = await self._make_somebody(tx, "Ada", "admin", self.film)
            self.other_member = await self._make_somebody(tx, "Max", "member", self.print)
            self.other_lead = await self._make_somebody(tx, "Leo", "lead", self.print)

    async def close(self) -> None:
        """Leave it."""
        await self.client.aclose()
        await unwire(self.app.state.wiring)

    async def team(self, name: str) -> Team:
        async with self.db.begin() as tx:
            return await self._make_team(tx, name)

    async def somebody(self, name: str, role: Role, *, team: Team | None = None) -> Somebody:
        async with self.db.begin() as tx:
            return await self._make_somebody(tx, name, role, team or self.film)

    async def key(self, user_id: UUID, *, expires_at: datetime | None = None) -> MadeKey:
        async with self.db.begin() as tx:
            return await self._make_key(tx, user_id, expires_at)

    async def _make_team(self, tx: Tx, name: str) -> Team:
        return await teams.create_team(tx, TeamBody(name=name), actor=COMMAND_LINE, now=self.clock())

    async def _make_somebody(self, tx: Tx, name: str, role: Role, team: Team) -> Somebody:
        body = UserBody(name=name, team_id=team.id, role=role)
        user = await users.create_user(tx, body, actor=COMMAND_LINE, now=self.clock())
        return Somebody(user, await self._make_key(tx, user.id, None))

    async def _make_key(self, tx: Tx, user_id: UUID, expires_at: datetime | None) -> MadeKey:
        body = KeyBody(user_id=user_id, name="a key", expires_at=expires_at)
        return await keys.create_key(tx, body, actor=COMMAND_LINE, now=self.clock())

    async def call(
        self, who: Somebody | str, method: str, path: str, *, content: bytes | None = None, **body: Any
    ) -> httpx.Response:
        """Send a request as somebody, or with a secret; keyword arguments are the JSON body."""
        secret = who if isinstance(who, str) else who.key.secret
        headers = {"Authorization": f"Bearer {secret}"}
        if content is not None:
            headers["Content-Type"] = "application/json"
            return await self.client.request(method, path, content=content, headers=headers)
        json = body if method in {"POST", "PATCH"} else None
        return await self.client.request(method, path, json=json, headers=headers)

    async def may_call(self, secret: str) -> bool:
        """Whether a request with this secret is let in."""
        answer = await self.call(secret, "GET", "/v1/keys")
        assert answer.status_code in {200, 401}
        return answer.status_code == 200
