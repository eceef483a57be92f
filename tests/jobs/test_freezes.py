"""What waits is not sent while whoever asked for it is frozen; nobody else waits for that."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.conftest import settings_for
from tests.gateway import ADMIN, Gateway, Person
from tests.jobs.hand import Hand, by_hand
from tests.jobs.slots import ask, in_flight


async def freeze(gateway: Gateway, scope: str, scope_id: str | None = None) -> str:
    return str((await gateway.admin("POST", "/v1/freeze", scope=scope, scope_id=scope_id, note="x"))["id"])


async def lift(gateway: Gateway, freeze_id: str) -> None:
    assert (await gateway.client.delete(f"/v1/freezes/{freeze_id}", headers=ADMIN)).status_code == 204


@pytest.fixture(params=[{}, {"fal_concurrency": "5"}, {"breaker_usd_per_hour": "100"}], ids=["all", "slots", "breaker"])
async def hand(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Hand]:
    async with by_hand(settings_for(database_url, **request.param)) as made:
        made.person = await made.gateway.make_person("admin")
        yield made


async def test_what_waits_is_not_sent_while_it_is_frozen_and_holds_up_nobody(hand: Hand) -> None:
    mia = await hand.gateway.make_person()
    colleague = await hand.gateway.make_person(team_id=mia.team_id)
    other_key = await hand.gateway.admin("POST", "/v1/keys", name="other", user_id=mia.user_id)
    by_other_key = Person(mia.user_id, mia.team_id, other_key["id"], other_key["secret"])
    made: list[Any] = [await ask(hand, person, 1) for person in (mia, by_other_key, colleague, hand.person)]
    jobs = [job for one in made for job in one]
    team = await freeze(hand.gateway, "team", mia.team_id)
    everybody = await freeze(hand.gateway, "organization")
    await hand.send()
    assert await in_flight(hand) == []
    await lift(hand.gateway, everybody)
    await hand.send()
    assert await in_flight(hand) == jobs[3:]
    user = await freeze(hand.gateway, "user", mia.user_id)
    await lift(hand.gateway, team)
    await hand.send()
    assert await in_flight(hand) == jobs[2:]
    key = await freeze(hand.gateway, "key", mia.key_id)
    await lift(hand.gateway, user)
    await hand.send()
    assert await in_flight(hand) == jobs[1:]
    await lift(hand.gateway, key)
    await hand.send()
    assert await in_flight(hand) == jobs
