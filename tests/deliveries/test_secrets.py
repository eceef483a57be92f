"""The secret that signs: made once, sealed, rotated; and a SECRET_KEY that is missing or another."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from app.deliveries.sender import Sender
from app.sealing import Seal, SealBroken
from app.settings import Settings
from tests.conftest import settings_for
from tests.deliveries.conftest import Office
from tests.deliveries.receiver import Received, Receiver
from tests.gateway import Person
from tests.jobs.hand import Hand, by_hand

SECRET = "/v1/me/webhook-secret"
ROTATE = f"{SECRET}/rotate"


def verifies(secret: str, received: Received) -> bool:
    try:
        Webhook(secret).verify(received.body, received.headers)
    except WebhookVerificationError:
        return False
    return True


def test_a_seal_opens_for_its_owner_under_its_key_and_unchanged_only() -> None:
    seal = Seal(SecretStr("k" * 32))
    sealed = seal.close(b"text", owner=b"ann")
    assert seal.open(sealed, owner=b"ann") == b"text"
    assert seal.close(b"text", owner=b"ann") != sealed
    assert "kkk" not in repr(seal) + repr(vars(seal))
    wrong = [(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"ann") for at in range(len(sealed))]
    wrong += [(sealed[:length], b"ann") for length in range(len(sealed))] + [(sealed, b"ben")]
    for text, owner in wrong:
        with pytest.raises(SealBroken):
            seal.open(text, owner=owner)
    with pytest.raises(SealBroken):
        Seal(SecretStr("K" * 32)).open(sealed, owner=b"ann")


async def test_twenty_first_uses_at_once_make_one_secret(office: Office) -> None:
    for _ in range(4):
        await office.end_job()
    answers = await asyncio.gather(*(office.ask("GET", SECRET) for _ in range(20)), office.turn())
    secrets = {one["secret"] for one in answers if isinstance(one, dict)}
    assert len(secrets) == 1
    (secret,) = secrets
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    assert [verifies(secret, one) for one in office.receiver.received] == [True] * 4


async def test_after_a_rotate_the_old_one_signs_along_for_a_day(office: Office) -> None:
    old = await office.ask("GET", SECRET)
    assert old["previous_expires_at"] is None
    new = await office.ask("POST", ROTATE)
    assert new["secret"] != old["secret"]
    assert new["previous_expires_at"] is not None
    assert await office.ask("GET", SECRET) == new
    await office.end_job()
    await office.turn()
    assert [verifies(one["secret"], office.receiver.received[0]) for one in (old, new)] == [True, True]
    await office.hand.sql("UPDATE webhook_secrets SET expires_at = now() - interval '1 s' WHERE expires_at > now()")
    assert (await office.ask("GET", SECRET))["previous_expires_at"] is None
    await office.end_job()
    await office.turn()
    assert [verifies(one["secret"], office.receiver.received[1]) for one in (old, new)] == [False, True]
    await office.ask("POST", ROTATE)
    rows = await office.hand.sql(
        "SELECT count(*) FROM webhook_secrets WHERE user_id = $1", office.hand.person.user_id[5:]
    )
    assert rows[0]["count"] == 2, "those that sign no more are forgotten"


async def test_rotates_at_once_come_one_after_the_other_and_stand_in_the_audit_log(office: Office) -> None:
    made = await asyncio.gather(*(office.ask("POST", ROTATE) for _ in range(12)))
    assert len({one["secret"] for one in made}) == 12
    assert (await office.secret()) in {one["secret"] for one in made}
    log = await office.hand.gateway.admin("GET", f"/v1/audit-log?object_id={office.hand.person.user_id}&limit=100")
    entries = [entry for entry in log["data"] if entry["action"] == "webhook_secret.rotated"]
    assert len(entries) == 12
    assert "whsec_" not in str(log)
    assert entries[0]["actor"].startswith(office.hand.person.user_id)
    await office.end_job()
    await office.turn()
    signatures = office.receiver.received[0].headers["webhook-signature"].split(" ")
    assert len(signatures) == 10, "a header has its bounds"
    rows = await office.hand.sql(
        "SELECT count(*) FROM webhook_secrets WHERE user_id = $1", office.hand.person.user_id[5:]
    )
    assert rows[0]["count"] == 10, "what would never sign is not kept"
    assert verifies(await office.secret(), office.receiver.received[0])


async def test_under_another_secret_key_the_way_out_is_named_and_taken(private: Settings, receiver: Receiver) -> None:
    async with by_hand(private) as hand:
        office = Office(hand, receiver)
        old = await office.secret()
        await office.end_job()
        person = hand.person
        changed = private.model_copy(update={"secret_key": SecretStr("another-secret-key-of-the-tests-0001")})
        office.sender = Sender(replace(hand.gateway.wiring, settings=changed))
        await office.turn()
        delivery = await office.delivery()
        assert (delivery["status"], delivery["response_status"]) == ("pending", None)
        assert delivery["error"].endswith("another SECRET_KEY: POST /v1/me/webhook-secret/rotate")
        assert receiver.received == []
    async with by_hand_as(changed, person) as hand:
        office = Office(hand, receiver)
        answer = await hand.gateway.client.get(SECRET, headers=person.headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "webhook-secret-unreadable")
        new = await office.ask("POST", ROTATE)
        assert new["previous_expires_at"] is None, "nobody can sign with the old one"
        await office.turn_later()
    assert [verifies(one, receiver.received[0]) for one in (old, new["secret"])] == [False, True]


async def test_without_a_secret_key_it_is_said_what_to_set(database_url: str, receiver: Receiver) -> None:
    settings = settings_for(database_url, WEBHOOK_ALLOW_PRIVATE="true")
    async with by_hand(settings) as hand:
        await Office(hand, receiver).end_job()
        person = hand.person
    async with by_hand_as(settings.model_copy(update={"secret_key": None}), person) as hand:
        office = Office(hand, receiver)
        for method, path in (("GET", SECRET), ("POST", ROTATE)):
            answer = await hand.gateway.client.request(method, path, headers=person.headers)
            assert (answer.status_code, answer.json()["code"]) == (409, "webhooks-off")
            assert "SECRET_KEY" in answer.json()["detail"]
        await office.turn()
        assert (await office.delivery())["error"] == "the gateway has no SECRET_KEY to sign with"
        refused = await hand.gateway.submit(person, webhook_url=receiver.url)
        assert refused.status_code == 422
        (fault,) = refused.json()["errors"]
        assert fault["pointer"] == "/webhook_url"
        assert "SECRET_KEY" in fault["detail"]
    assert receiver.received == []


@asynccontextmanager
async def by_hand_as(settings: Settings, person: Person) -> AsyncIterator[Hand]:
    """Another process on the same database, for somebody who is there already."""
    async with by_hand(settings, shared=True) as hand:
        hand.person = person
        yield hand
