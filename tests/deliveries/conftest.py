"""A gateway whose sender is turned by hand, and receivers on loopback."""

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.deliveries.sender import Sender
from app.embedded import EmbeddedPostgres
from app.settings import Settings
from tests.conftest import settings_for
from tests.deliveries.receiver import Receiver, receiving
from tests.jobs.hand import Hand, by_hand, rest

_numbers = itertools.count()


class Office:
    """A gateway, its sender turned by hand, and its one receiver."""

    def __init__(self, hand: Hand, receiver: Receiver) -> None:
        self.hand = hand
        self.receiver = receiver
        self.sender: Sender = hand.rooms.sender

    async def end_job(self, url: str | None = None, **fields: Any) -> str:
        """A job that has ended, canceled, and has a delivery."""
        job_id = await self.hand.submit(webhook_url=url or self.receiver.url, **fields)
        answer = await self.hand.gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=self.hand.person.headers)
        assert answer.json()["status"] == "canceled"
        return job_id

    async def turn(self) -> int:
        """One turn of the sender, to its end."""
        found = await self.sender._turn(150) + await self.sender._turn_slow(50)
        await rest(self.sender.loop)
        await rest(self.sender.slow_loop)
        return found

    async def turn_later(self) -> int:
        """As `turn`, when every pause between two tries is over."""
        await self.hand.sql("UPDATE deliveries SET next_try_at = now() WHERE status = 'pending'")
        return await self.turn()

    async def ask(self, method: str, path: str) -> dict[str, Any]:
        answer = await self.hand.gateway.client.request(method, path, headers=self.hand.person.headers)
        assert answer.is_success, answer.text
        return dict(answer.json())

    async def deliveries(self) -> list[dict[str, Any]]:
        """As their owner sees them, oldest first."""
        return list(reversed((await self.ask("GET", "/v1/deliveries?limit=100"))["data"]))

    async def delivery(self) -> dict[str, Any]:
        (only,) = await self.deliveries()
        return only

    async def secret(self) -> str:
        return str((await self.ask("GET", "/v1/me/webhook-secret"))["secret"])


@pytest.fixture
def private(database_url: str) -> Settings:
    """Webhooks may go to this machine."""
    return settings_for(database_url, WEBHOOK_ALLOW_PRIVATE="true")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture(scope="module")
def module_database_url(postgres: EmbeddedPostgres, template: str) -> str:
    name = f"deliveries_{next(_numbers)}"
    postgres.create_database(name, template)
    return postgres.dsn(name)


@pytest.fixture
async def office(module_database_url: str, receiver: Receiver) -> AsyncIterator[Office]:
    """On one database for the whole module: each test has a person of its own, and leaves nothing pending."""
    settings = settings_for(module_database_url, WEBHOOK_ALLOW_PRIVATE="true")
    async with by_hand(settings, shared=True) as hand:
        made = Office(hand, receiver)
        yield made
        await hand.sql("UPDATE deliveries SET status = 'failed', next_try_at = NULL WHERE status = 'pending'")
