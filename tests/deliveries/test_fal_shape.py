"""Webhooks in fal's shape: what fal would have told, signed with a key of our own that we publish."""

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import SecretStr

from app.deliveries.fal_keys import FalSigner
from app.fal import Completed, Genuine
from app.fal.messages import Reply
from app.fal.signature import Forged, read_keys, verify
from app.fal.webhooks import read_webhook, told_outcome
from app.jobs.ends.fal_webhook import FAL_JSON
from tests.conftest import settings_for
from tests.deliveries.conftest import Office
from tests.deliveries.receiver import Received, answer
from tests.jobs.hand import TEXT, VIDEO, by_hand, failed

JWKS = ("/.well-known/jwks.json", "/fal/.well-known/jwks.json")


async def ask_in_fals_shape(office: Office) -> str:
    """A job that came by fal's own protocol."""
    hand = office.hand
    answered = await hand.gateway.client.post(
        f"/fal/{TEXT}",
        params={"fal_webhook": office.receiver.url},
        json={"prompt": "a boat"},
        headers=hand.person.headers,
    )
    assert answered.status_code == 200, answered.text
    return str(answered.json()["request_id"])


async def succeed(office: Office) -> str:
    job_id = await ask_in_fals_shape(office)
    await office.hand.send()
    office.hand.fal.answer("status", Completed(None, None))
    await office.hand.check()
    assert await office.hand.status(job_id) == "succeeded"
    return job_id


async def published(office: Office, path: str = JWKS[0]) -> dict[str, Any]:
    answered = await office.hand.gateway.client.get(path)
    assert answered.status_code == 200
    assert "max-age=3600" in answered.headers["cache-control"]
    return dict(answered.json())


def verify_as_fals_page_says(received: Received, key_set: dict[str, Any]) -> None:
    """The steps of fal's page about webhooks, with the padding that its sample lacks (FAL.md 3)."""
    named = [received.headers[f"x-fal-webhook-{name}"] for name in ("request-id", "user-id", "timestamp")]
    message = "\n".join([*named, hashlib.sha256(received.body).hexdigest()]).encode()
    (key,) = key_set["keys"]
    raw = base64.urlsafe_b64decode(key["x"] + "=" * (-len(key["x"]) % 4))
    Ed25519PublicKey.from_public_bytes(raw).verify(bytes.fromhex(received.headers["x-fal-webhook-signature"]), message)


async def test_a_success_is_told_as_fal_would_and_both_verifiers_take_it(office: Office) -> None:
    job_id = await succeed(office)
    await office.turn()
    (received,) = office.receiver.received
    assert json.loads(received.body) == {
        "request_id": job_id,
        "gateway_request_id": job_id,
        "status": "OK",
        "payload": VIDEO,
    }
    key_set = await published(office)
    assert key_set == await published(office, JWKS[1])
    assert key_set["keys"][0].keys() >= {"kty", "crv", "x", "kid"}
    verify_as_fals_page_says(received, key_set)
    keys = read_keys(Reply(200, {}, json.dumps(key_set).encode()))
    headers = [(name.encode(), value.encode()) for name, value in received.headers.items()]
    now = office.hand.clock()
    assert verify(headers, received.body, keys=keys, now=now) == Genuine(job_id, office.hand.person.user_id)
    assert verify(headers, received.body + b" ", keys=keys, now=now) == Forged("signature")
    webhook = read_webhook(received.body)
    assert webhook is not None
    assert told_outcome(webhook.kept).output == VIDEO  # type: ignore[union-attr]
    assert not received.headers.keys() & {"webhook-id", "webhook-signature"}


async def test_each_try_is_signed_anew_over_the_same_body_and_asked_for_again_like_any_other(office: Office) -> None:
    office.receiver.then(answer(500), answer(503))
    await succeed(office)
    for _ in range(3):
        await office.turn_later()
        office.hand.clock.move(seconds=1)
    delivery = await office.delivery()
    assert (delivery["shape"], delivery["type"]) == ("fal", "job.succeeded")
    assert (delivery["status"], delivery["tries"]) == ("delivered", 3)
    await office.ask("POST", f"/v1/deliveries/{delivery['id']}/redeliver")
    await office.turn()
    received, key_set = office.receiver.received, await published(office)
    assert len(received) == 4
    assert len({one.body for one in received}) == 1
    assert len({one.headers["x-fal-webhook-timestamp"] for one in received}) == 4
    for one in received:
        verify_as_fals_page_says(one, key_set)
    await office.end_job()
    assert [one["shape"] for one in await office.deliveries()] == ["fal", "standard"]
    await office.turn()
    assert "webhook-signature" in office.receiver.received[-1].headers


async def test_a_cancel_of_the_callers_is_told_as_fals_own(office: Office) -> None:
    job_id = await ask_in_fals_shape(office)
    await office.hand.cancel(job_id)
    await office.turn()
    told = json.loads(office.receiver.received[0].body)
    assert (told["status"], told["error"]) == ("ERROR", "Invalid status code: 499")
    assert told["payload"]["error_type"] == "client_cancelled"
    assert told["payload"]["detail"]


async def test_a_failure_at_fal_is_told_with_its_code(office: Office) -> None:
    job_id = await ask_in_fals_shape(office)
    await office.hand.send()
    office.hand.fal.answer("status", Completed("no", "content_policy_violation"))
    office.hand.fal.answer("result", failed(422, type_="content_policy_violation"))
    await office.hand.check()
    await office.turn()
    told = json.loads(office.receiver.received[0].body)
    assert told["request_id"] == told["gateway_request_id"] == job_id
    assert told["error"] == "Invalid status code: 422"
    assert told["payload"]["detail"]


REPLY = {"status": 422, "headers": {}, "body": {"detail": [{"loc": ["body", "prompt"], "msg": "no", "type": "x"}]}}


@pytest.mark.parametrize(
    ("code", "fal", "reply", "status", "payload"),
    [
        ("x", {"status": 422, "type": "x"}, REPLY, "422", REPLY["body"]),
        ("x", {"status": 500, "type": "y"}, None, "500", {"detail": "told", "error_type": "y"}),
        ("canceled", {"status": None, "type": None}, None, "499", {"detail": "told", "error_type": "client_cancelled"}),
        ("queue-timeout", {}, None, "504", {"detail": "told", "error_type": "request_timeout"}),
        ("deadline-exceeded", {"status": 499}, None, "504", {"detail": "told", "error_type": "request_timeout"}),
        ("unconfirmed", {"status": None}, None, "500", {"detail": "told", "error_type": "internal_error"}),
    ],
)
async def test_fals_own_words_are_replayed_and_our_own_ends_have_fitting_ones(
    office: Office, code: str, fal: dict[str, Any], reply: dict[str, Any] | None, status: str, payload: dict[str, Any]
) -> None:
    job_id = await office.hand.submit()
    await office.hand.cancel(job_id)
    error = {"code": code, "title": "t", "detail": "told", "retryable": False, "fal": fal}
    (row,) = await office.hand.sql(
        "WITH ended AS (UPDATE jobs SET status = 'failed', error = $2::text::json, fal_reply = $3::text::json"  # noqa: S608
        f" WHERE id = $1 RETURNING *) SELECT {FAL_JSON} AS body FROM ended j",
        job_id[4:],
        json.dumps(error),
        reply and json.dumps(reply),
    )
    told = json.loads(row["body"])
    assert (told["error"], told["payload"]) == (f"Invalid status code: {status}", payload)


async def test_without_secret_key_there_is_no_key_set_and_another_one_is_another_key(office: Office) -> None:
    url = office.hand.gateway.wiring.settings.database_url.get_secret_value()
    async with by_hand(settings_for(url, SECRET_KEY=""), shared=True) as bare:
        for path in JWKS:
            told = await bare.gateway.client.get(path)
            assert told.status_code == 404
            assert "SECRET_KEY" in told.text
    assert FalSigner(SecretStr("s" * 40)).key_set() == FalSigner(SecretStr("s" * 40)).key_set()
    assert FalSigner(SecretStr("s" * 40)).key_set() != FalSigner(SecretStr("t" * 40)).key_set()
