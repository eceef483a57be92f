"""Submitting by fal's protocol: what is answered, and what becomes of everything beside the input."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from app.accounts.key_secrets import hash_of
from app.tokens import Grant
from tests.gateway import Gateway, Person

from .asking import ALIAS, IMAGE, TEXT, entries, jobs_of, key, refusal, row, submit

pytestmark = pytest.mark.asyncio(loop_scope="package")

PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


async def test_a_submit_is_answered_as_fal_answers_it(gateway: Gateway, ann: Person) -> None:
    answer = await submit(gateway, ann, {"prompt": "a boat", "duration": "10"})
    assert answer.status_code == 200
    told = answer.json()
    base = f"{gateway.url}/fal/{ALIAS}/requests/{told['request_id']}"
    assert told == {
        "status": "IN_QUEUE",
        "request_id": told["request_id"],
        "response_url": base,
        "status_url": f"{base}/status",
        "cancel_url": f"{base}/cancel",
        "queue_position": 0,
    }
    assert answer.headers["x-fal-request-id"] == told["request_id"]
    job = await gateway.job(ann, told["request_id"])
    assert (job["status"], job["endpoint"], job["quoted_usd"]) == ("queued", TEXT, "2.80")
    assert job["input"]["prompt"] == "a boat"


async def test_an_image_is_taken_as_under_v1(gateway: Gateway, ann: Person) -> None:
    answer = await submit(gateway, ann, {"prompt": "a boat", "image_url": PNG}, endpoint=IMAGE)
    assert answer.status_code == 200, answer.text
    job = await gateway.job(ann, answer.json()["request_id"])
    assert job["input"]["image_url"].startswith("data:image/png;bytes=")


async def test_a_body_may_be_as_large_as_an_image_and_no_larger(gateway: Gateway, ann: Person) -> None:
    large = {"prompt": "a boat", "image_url": "data:image/png;base64," + "A" * 2_000_000}
    assert (await submit(gateway, ann, large, endpoint=IMAGE)).status_code == 200
    too_large = {"prompt": "a boat", "image_url": "data:image/png;base64," + "A" * 15_000_000}
    refusal(await submit(gateway, ann, too_large, endpoint=IMAGE), 413, "body_too_large")


async def test_what_headers_and_query_say_stands_on_the_job(gateway: Gateway, ann: Person) -> None:
    answer = await submit(
        gateway,
        ann,
        query="?fal_webhook=https://hooks.example.com/x&fal_max_queue_length=3&fal_unheard_of=1",
        X_Fal_Tags="scene=4,film.take=two words",
        X_End_User="zoé".encode().decode("latin-1"),
        X_Fal_Request_Start_Timeout="90.5",
        X_Fal_Queue_Priority="low",
    )
    assert answer.status_code == 200, answer.text
    job = await row(gateway, answer.json()["request_id"])
    assert (job["webhook_url"], job["webhook_shape"]) == ("https://hooks.example.com/x", "fal")
    shown = await gateway.job(ann, answer.json()["request_id"])
    assert shown["tags"] == {"scene": "4", "film.take": "two words"}
    assert (job["end_user"], job["start_by"] - job["created_at"]) == ("zoé", timedelta(seconds=90.5))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a=1,fal.b=2,C=3,d,=e,f=", {"a": "1"}),
        ("a=1, b = 2 ,c=x=y", {"a": "1", "c": "x=y"}),
        (",".join(f"k{n}={n}" for n in range(12)), {f"k{n}": str(n) for n in range(10)}),
        ("a=" + "x" * 257, {}),
        ("a=1," + "b" * 1100, {}),
        ("", {}),
    ],
)
async def test_tags_that_cannot_be_are_silently_left_out(
    gateway: Gateway, ann: Person, given: str, kept: dict[str, str]
) -> None:
    answer = await submit(gateway, ann, X_Fal_Tags=given)
    assert answer.status_code == 200, answer.text
    assert (await gateway.job(ann, answer.json()["request_id"]))["tags"] == kept


@pytest.mark.parametrize("name", ["X-End-User", "x-fal-request-start-timeout"])
async def test_what_is_said_twice_is_not_chosen_from(gateway: Gateway, ann: Person, name: str) -> None:
    headers = [*key(ann).items(), (name, "5"), (name, "9")]
    answer = await gateway.client.post(f"/fal/{TEXT}", json={"prompt": "x"}, headers=headers)
    assert [entry["loc"] for entry in entries(answer)] == [["header", name]]
    assert await jobs_of(gateway, ann) == 0


@pytest.mark.parametrize(
    ("headers", "query", "where"),
    [
        ({"X_End_User": ""}, "", ["header", "X-End-User"]),
        ({"X_End_User": "x" * 129}, "", ["header", "X-End-User"]),
        ({"X_End_User": "\xff"}, "", ["header", "X-End-User"]),
        ({"X_Fal_Request_Timeout": "soon"}, "", ["header", "x-fal-request-timeout"]),
        ({"X_Fal_Request_Start_Timeout": "nan"}, "", ["header", "x-fal-request-start-timeout"]),
        ({"X_Fal_Request_Start_Timeout": "0"}, "", ["header", "x-fal-request-start-timeout"]),
        ({"Idempotency_Key": ""}, "", ["header", "Idempotency-Key"]),
        ({}, "?fal_webhook=http://127.0.0.1/x", ["query", "fal_webhook"]),
        ({}, "?fal_webhook=https://e.com/%23part", ["query", "fal_webhook"]),
        ({}, "?fal_webhook=/hook", ["query", "fal_webhook"]),
        ({}, "?fal_webhook=https://a.example/&fal_webhook=https://b.example/", ["query", "fal_webhook"]),
        ({}, "?fal_webhook=https://e.com/" + "x" * 2000, ["query", "fal_webhook"]),
    ],
)
async def test_what_cannot_be_heeded_is_said(
    gateway: Gateway, ann: Person, headers: dict[str, str], query: str, where: list[str]
) -> None:
    answer = await submit(gateway, ann, query=query, **headers)
    assert [entry["loc"] for entry in entries(answer)] == [where]
    assert await jobs_of(gateway, ann) == 0


@pytest.mark.parametrize("path", ["fal-ai/veo3", "fal-ai/kling-video", "run/fal-ai/veo3"])
async def test_what_is_not_served_is_a_404_that_says_what_is(gateway: Gateway, ann: Person, path: str) -> None:
    body = refusal(await submit(gateway, ann, endpoint=path), 404, "not_found")
    assert f"Path /{path.removeprefix('run/')} not found" in body["detail"]
    assert TEXT in body["detail"]
    assert IMAGE in body["detail"]


async def test_streams_and_tokens_are_refused_with_a_sentence(gateway: Gateway, ann: Person) -> None:
    for path in (f"run/{TEXT}/stream", f"{TEXT}/realtime", "tokens/"):
        assert "The gateway" in refusal(await submit(gateway, ann, endpoint=path), 404, "not_found")["detail"]
    assert await jobs_of(gateway, ann) == 0


async def test_only_a_post_submits(gateway: Gateway, ann: Person) -> None:
    for path in (TEXT, f"run/{TEXT}"):
        answer = await gateway.client.get(f"/fal/{path}", headers=key(ann))
        refusal(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"
    assert (await gateway.client.delete(f"/fal/{TEXT}", headers=key(ann))).json()["error_type"] == "method_not_allowed"


async def test_whoever_has_no_key_hears_only_that(gateway: Gateway) -> None:
    for headers in ({}, {"Authorization": "Key nonsense"}, {"Authorization": "Key fg_" + "x" * 49}):
        for path in (TEXT, "fal-ai/veo3", "nothing", f"run/{TEXT}"):
            answer = await gateway.client.post(f"/fal/{path}", json={"prompt": 7}, headers=headers)
            refusal(answer, 401, "key_unknown")
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_an_own_idempotency_key_counts_as_under_v1(gateway: Gateway, ann: Person) -> None:
    first = await submit(gateway, ann, Idempotency_Key="mine")
    again = await submit(gateway, ann, Idempotency_Key="mine")
    assert again.json() == first.json()
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    refusal(await submit(gateway, ann, {"prompt": "else"}, Idempotency_Key="mine"), 422, "idempotency_key_reused")


async def test_a_token_submits_for_its_end_user_only(gateway: Gateway, ann: Person) -> None:
    assert gateway.wiring.tokens is not None
    known = hash_of(ann.secret.encode())
    assert known is not None
    until = datetime.now(UTC) + timedelta(days=1)
    made = [
        gateway.wiring.tokens.mint(known, Grant(scope="submit", expires_at=until, end_user="zoe")),
        gateway.wiring.tokens.mint(known, Grant(scope="read", expires_at=until)),
        gateway.wiring.tokens.mint(known, Grant(scope="submit", expires_at=until, job_id=UUID(int=7))),
    ]
    visitor, reader, of_one_job = [Person(ann.user_id, ann.team_id, ann.key_id, token) for token in made]
    answer = await submit(gateway, visitor)
    assert (await row(gateway, answer.json()["request_id"]))["end_user"] == "zoe"
    assert (await submit(gateway, visitor, X_End_User="zoe")).status_code == 200
    entries(await submit(gateway, visitor, X_End_User="yan"))
    assert (await submit(gateway, reader)).status_code == 403
    assert (await submit(gateway, of_one_job)).status_code == 401


async def test_a_job_is_the_same_under_both_protocols(gateway: Gateway, ann: Person) -> None:
    made = (await gateway.submit(ann)).json()["id"]
    status = await gateway.client.get(f"/fal/{ALIAS}/requests/{made}/status", headers=key(ann))
    assert status.json()["status"] == "IN_QUEUE"
    told = (await submit(gateway, ann)).json()
    canceled = await gateway.client.post(f"/v1/jobs/{told['request_id']}/cancel", headers=ann.headers)
    assert canceled.json()["status"] == "canceled"
    assert (await gateway.client.get(told["status_url"], headers=key(ann))).json()["status"] == "COMPLETED"


async def test_twenty_submits_and_a_quota_of_five(gateway: Gateway, ann: Person) -> None:
    await gateway.set_quota("7.00", scope="user", scope_id=ann.user_id)
    answers = await asyncio.gather(*(submit(gateway, ann, {"prompt": f"boat {n}"}) for n in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [402] * 15
    assert await jobs_of(gateway, ann) == 5
    async with gateway.wiring.db.plain() as plain:
        held = await plain.fetchval("SELECT sum(held_usd) FROM jobs WHERE user_id = $1", ann.user_id[5:])
    assert held == Decimal(7)
