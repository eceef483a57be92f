"""fal's webhooks: what they do for a job, whenever they come, and what no forged one can do."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings

from app.fal import Completed, Gone, InProgress, KeySet, Queued, RefusedUs, Trouble, Unknown, UnknownStatus
from app.jobs.ends import ending
from app.ledger.settles import resolve_holds
from app.logs import set_up_logs
from tests.conftest import settings_for
from tests.fal.forging import Sent, forgeries
from tests.fal.signing import ACCOUNT, Signer, publishing, told
from tests.fal.wire import answer
from tests.gateway import run_gateway
from tests.jobs.hand import START_DEADLINE, Hand, accepted, by_hand, failed, rest, until
from tests.jobs.voice import DONE, PUBLIC_URL, Voice, with_voice

PROMPT_TOO_LONG = {"detail": [{"loc": ["body", "prompt"], "msg": "too long", "type": "string_too_long"}]}


@pytest.fixture
async def voice(module_database_url: str) -> AsyncIterator[Voice]:
    async with with_voice(module_database_url) as made:
        yield made


@pytest.fixture
def hand(voice: Voice) -> Hand:
    return voice.hand


def _status(answers: list[httpx.Response]) -> list[int]:
    return sorted(each.status_code for each in answers)


async def _lost(voice: Voice) -> tuple[str, str]:
    """A job whose submit's answer was lost, and its attempt; our account is known."""
    await voice.pin()
    job_id = await voice.hand.submit()
    voice.hand.fal.answer("submit", Unknown("reset", None))
    await voice.hand.send()
    assert await voice.hand.status(job_id) == "unconfirmed"
    return job_id, (await voice.hand.attempts(job_id))[0]["id"].hex


# What it is sent to


async def test_each_attempt_is_sent_with_a_secret_address_of_its_own(voice: Voice) -> None:
    first, second = await voice.hand.submit("one"), await voice.hand.submit("two")
    await voice.hand.send()
    attempts = [(await voice.hand.attempts(job_id))[0]["id"] for job_id in (first, second)]
    assert sorted(filter(None, voice.hand.fal.webhook_urls)) == sorted(
        f"{PUBLIC_URL}/webhooks/fal/{attempt.hex}" for attempt in attempts
    )


async def test_without_public_url_fal_is_given_no_address(module_database_url: str) -> None:
    async with by_hand(settings_for(module_database_url), shared=True) as hand:
        await hand.at_fal()
        assert hand.fal.webhook_urls == [None]


async def test_the_address_is_nowhere_to_be_seen(
    voice: Voice, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError(path)

    job_id = await voice.hand.at_fal()
    attempt = (await voice.hand.attempts(job_id))[0]["id"]
    path = f"/webhooks/fal/{attempt.hex}"
    client, person = voice.hand.gateway.client, voice.hand.person
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        set_up_logs(level="debug", layout="json", secrets=[])
        assert (await voice.tell(attempt.hex, "another")).status_code == 401
        with monkeypatch.context() as patch:
            patch.setattr(KeySet, "judge", fail)
            answers = [await voice.tell_job(job_id), await client.get(path)]
        assert (await voice.tell_job(job_id)).status_code == 200
        await voice.turn()
    finally:
        root.handlers, root.level = handlers, level
    assert _status(answers) == [405, 500]
    seen = capsys.readouterr().err
    assert "/webhooks/fal/[secret]" in seen
    seen += "".join(each.text for each in answers)
    for page in ["/openapi.json", "/metrics", "/v1/jobs", f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/entries"]:
        seen += (await client.get(page, headers=person.headers)).text
    assert attempt.hex not in seen
    assert str(attempt) not in seen
    assert "/webhooks/" not in (await client.get("/openapi.json")).text


# What a true one does


async def test_a_true_one_has_fal_asked_at_once_and_is_forgotten_when_the_job_ends(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal()
    await voice.turn()
    assert hand.fal.count("status") == 0  # nothing is due for five seconds
    assert (await voice.tell_job(job_id)).status_code == 200
    assert await voice.kept() == 1
    hand.fal.answer("status", DONE)
    await voice.turn()
    job = await hand.job(job_id)
    assert job["status"] == "succeeded"
    assert job["output"]["video"]["url"].endswith("/boat.mp4")  # fal's result, not the webhook's payload
    assert await voice.kept() == 0
    assert (await voice.tell_job(job_id)).status_code == 200
    assert await voice.kept() == 0
    assert (voice.count("kept"), voice.count("ended")) == (1, 1)


async def test_ten_copies_of_one_webhook_settle_once(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal()
    answers = await asyncio.gather(*(voice.tell_job(job_id) for _ in range(10)))
    assert _status(answers) == [200] * 10
    hand.fal.answer("status", DONE)
    await voice.turn()
    answers = await asyncio.gather(*(voice.tell_job(job_id) for _ in range(10)))
    await voice.turn()
    assert _status(answers) == [200] * 10
    assert [kind for kind, _, _ in await hand.entries(job_id)] == ["hold", "settle"]
    assert (hand.fal.count("status"), hand.fal.count("result"), voice.count("kept")) == (1, 1, 1)


async def test_a_repeated_one_does_not_have_fal_asked_each_time(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal()
    for _ in range(5):
        assert (await voice.tell_job(job_id)).status_code == 200
        await voice.turn()
    assert hand.fal.count("status") == 1
    assert voice.count("repeated") == 4


async def test_one_that_comes_while_the_job_is_being_checked_has_it_checked_again(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal()
    gate = asyncio.Event()
    hand.fal.during["status"] = gate.wait  # type: ignore[assignment]
    hand.fal.answer("status", InProgress(), DONE)
    await hand.begin_checking()
    await until(lambda: hand.fal.count("status") == 1)
    assert (await voice.tell_job(job_id)).status_code == 200
    await hand.rooms.tracker._turn(100)
    gate.set()
    await rest(hand.rooms.tracker.loop)
    assert await hand.status(job_id) == "succeeded"


@pytest.mark.parametrize("status", ["running", "unconfirmed"])
async def test_it_wakes_wherever_the_job_stands_at_fal(voice: Voice, hand: Hand, status: str) -> None:
    job_id = await hand.at_fal(status)
    assert (await voice.tell_job(job_id)).status_code == 200
    assert await voice.is_due(job_id)


@pytest.mark.parametrize("members", [{"payload": None, "payload_error": "no"}, {"payload": None}], ids=str)
async def test_one_without_a_payload_means_fetch_it(voice: Voice, hand: Hand, members: dict[str, object]) -> None:
    job_id = await hand.at_fal()
    assert (await voice.tell_job(job_id, **members)).status_code == 200
    hand.fal.answer("status", DONE)
    await voice.turn()
    assert await hand.status(job_id) == "succeeded"


async def test_a_late_one_of_an_attempt_that_never_started_changes_nothing(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal()
    first = (await hand.attempts(job_id))[0]
    hand.fal.answer("status", Completed("timeout", "request_timeout"))
    hand.fal.answer("result", START_DEADLINE)
    await hand.check()
    assert await hand.status(job_id) == "queued"
    assert (await voice.tell(first["id"].hex, first["fal_request_id"])).status_code == 200
    assert await hand.status(job_id) == "queued"
    assert await voice.kept() == 0


async def test_one_about_a_stray_has_it_looked_at_now(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal("unconfirmed")
    await hand.sql("UPDATE attempts SET stray_check_at = now() + interval '1 hour' WHERE job_id = $1", job_id[4:])
    assert (await voice.tell_job(job_id)).status_code == 200
    stray = "SELECT stray_check_at <= now() AS due FROM attempts WHERE job_id = $1"
    assert (await hand.sql(stray, job_id[4:]))[0]["due"]


# Before the submit's answer, or instead of it


async def test_one_before_the_submits_answer_moves_the_job_and_the_answer_finds_it_in_order(
    voice: Voice, hand: Hand
) -> None:
    await voice.pin()
    job_id = await hand.submit()
    answers: list[httpx.Response] = []

    async def tell() -> None:
        attempt = (await hand.attempts(job_id))[0]["id"].hex
        answers.append(await voice.tell(attempt, "early"))
        assert await hand.status(job_id) == "submitted"
        assert await voice.is_due(job_id)

    hand.fal.during["submit"] = tell
    hand.fal.answer("submit", accepted("early"))
    hand.fal.answer("status", InProgress(), DONE)
    await hand.send()
    assert _status(answers) == [200]
    row = (await hand.attempts(job_id))[0]
    assert (row["fal_request_id"], row["outcome"], row["stray_check_at"]) == ("early", "accepted", None)
    await voice.turn()
    assert await hand.status(job_id) == "succeeded"
    assert hand.fal.count("cancel") == 0
    assert [kind for kind, _, _ in await hand.entries(job_id)] == ["hold", "settle"]


@pytest.mark.parametrize("late", [Unknown("reset", None), RefusedUs(429, "busy", None)], ids=str)
async def test_one_before_a_submits_answer_that_is_lost_or_odd_keeps_the_job_at_fal(
    voice: Voice, hand: Hand, late: object
) -> None:
    await voice.pin()
    job_id = await hand.submit()

    async def tell() -> None:
        assert (await voice.tell((await hand.attempts(job_id))[0]["id"].hex, "early")).status_code == 200

    hand.fal.during["submit"] = tell
    hand.fal.answer("submit", late)
    await hand.send()
    assert await hand.status(job_id) == "submitted"
    hand.fal.answer("status", DONE)
    await voice.turn()
    assert await hand.status(job_id) == "succeeded"
    assert hand.fal.count("submit") == 2  # the first job's, and this one's


@pytest.mark.parametrize("seen", [Queued(3), InProgress(), DONE, UnknownStatus("LATER")], ids=str)
async def test_a_lost_answer_is_found_by_the_webhook_once_fal_names_it(voice: Voice, hand: Hand, seen: object) -> None:
    job_id, attempt = await _lost(voice)
    hand.fal.answer("status", seen, DONE)
    assert (await voice.tell(attempt, "found")).status_code == 200
    job = await hand.job(job_id)
    assert (job["status"], job["fal_request_id"]) == ("submitted", "found")
    await voice.turn()
    assert await hand.status(job_id) == "succeeded"


@pytest.mark.parametrize(("seen", "code"), [(Gone(404), 401), (Trouble("502"), 503)], ids=str)
async def test_an_id_that_fal_does_not_name_to_our_key_is_not_stored(
    voice: Voice, hand: Hand, seen: object, code: int
) -> None:
    job_id, attempt = await _lost(voice)
    hand.fal.answer("status", seen)
    answer = await voice.tell(attempt, "elsewhere")
    assert answer.status_code == code
    assert ("retry-after" in answer.headers) == (code == 503)
    assert (await hand.attempts(job_id))[0]["fal_request_id"] is None
    assert await hand.status(job_id) == "unconfirmed"


async def test_a_status_read_that_hangs_is_given_up(voice: Voice, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    _, attempt = await _lost(voice)
    monkeypatch.setattr("app.jobs.at_fal.receive._ASK_SECONDS", 0.02)
    hand.fal.during["status"] = asyncio.Event().wait  # type: ignore[assignment]
    assert (await voice.tell(attempt, "slow")).status_code == 503


async def test_many_at_once_about_unknown_requests_are_few_calls_to_fal(voice: Voice, hand: Hand) -> None:
    job_id, attempt = await _lost(voice)
    before = hand.fal.count("status")
    gate = asyncio.Event()
    hand.fal.during["status"] = gate.wait  # type: ignore[assignment]
    telling = [asyncio.create_task(voice.tell(attempt, "found")) for _ in range(50)]
    await until(lambda: voice.count("busy") == 42)
    gate.set()
    assert _status(await asyncio.gather(*telling)) == [200] * 8 + [503] * 42
    assert hand.fal.count("status") == before + 8
    assert await hand.status(job_id) == "submitted"


async def test_before_our_account_is_known_no_id_of_a_webhook_is_taken(voice: Voice, hand: Hand) -> None:
    job_id = await hand.submit()
    hand.fal.answer("submit", Unknown("reset", None))
    await hand.send()
    answer = await voice.tell((await hand.attempts(job_id))[0]["id"].hex, "found")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert hand.fal.count("status") == 0


async def test_one_fal_request_is_never_given_to_two_jobs(voice: Voice, hand: Hand) -> None:
    taken = (await hand.job(await hand.at_fal(prompt="two")))["fal_request_id"]
    job_id, attempt = await _lost(voice)
    assert (await voice.tell(attempt, taken)).status_code == 401
    assert await hand.status(job_id) == "unconfirmed"
    assert (await hand.attempts(job_id))[0]["fal_request_id"] is None


async def test_of_two_requests_that_name_one_attempt_the_first_stays(voice: Voice, hand: Hand) -> None:
    await voice.pin()
    job_id = await hand.submit()

    async def tell() -> None:
        assert (await voice.tell((await hand.attempts(job_id))[0]["id"].hex, "one")).status_code == 200

    hand.fal.during["submit"] = tell
    hand.fal.answer("submit", accepted("two"))
    await hand.send()
    attempt = (await hand.attempts(job_id))[0]
    assert (attempt["fal_request_id"], attempt["stray_check_at"]) == ("one", None)
    assert (await hand.job(job_id))["fal_request_id"] == "one"
    await hand.sql("UPDATE jobs SET next_check_at = now() WHERE id = $1", job_id[4:])
    await voice.turn()
    assert ("status", "one") in hand.fal.calls


async def test_one_for_a_job_that_has_moved_on_is_a_stray(voice: Voice, hand: Hand) -> None:
    job_id, attempt = await _lost(voice)
    assert await hand.resolve(job_id, outcome="void") == 200
    assert (await voice.tell(attempt, "ran")).status_code == 200
    assert (await hand.attempts(job_id))[0]["stray_check_at"] is not None
    hand.fal.answer("status", DONE)
    await hand.follow_strays()
    assert [(kind, usd) for kind, usd, _ in await hand.entries(job_id)][-1] == ("overage", "1.40")


# What is refused


async def test_nobody_learns_which_attempts_there_are_but_by_knowing_one(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal()
    attempt = (await hand.attempts(job_id))[0]["id"]
    for wrong in ["0" * 32, "x", "%00", attempt.hex.upper(), str(attempt), "{" + attempt.hex + "}", attempt.hex[:-1]]:
        answer = await voice.tell(wrong, "request")
        assert answer.status_code == 404, wrong
    assert voice.keys.heard == []  # nothing was fetched for it
    assert voice.count("unknown_attempt") == 7


async def test_a_request_id_that_is_not_the_attempts_is_refused(voice: Voice, hand: Hand) -> None:
    job_id, other = await hand.at_fal(prompt="one"), await hand.at_fal(prompt="two")
    mine, others = (await hand.attempts(job_id))[0], (await hand.attempts(other))[0]
    attempt, request_id = mine["id"].hex, mine["fal_request_id"]
    replayed = await voice.tell(attempt, others["fal_request_id"])
    in_the_body = await voice.tell(attempt, request_id, told("another"))
    in_the_header = await voice.tell(attempt, request_id, signed_id="another")
    neither = await voice.tell(attempt, request_id, b"no json")
    assert _status([replayed, in_the_body, in_the_header, neither]) == [401] * 4
    assert replayed.json()["code"] == "webhook-refused"
    assert await voice.kept() == 0
    assert not await voice.is_due(job_id)


async def test_genuine_signatures_of_another_account_of_fals_are_refused(voice: Voice, hand: Hand) -> None:
    await voice.pin()
    job_id = await hand.at_fal()
    attempt = (await hand.attempts(job_id))[0]
    known = await voice.tell(attempt["id"].hex, attempt["fal_request_id"], user_id="github|666")
    hand.fal.answer("submit", Unknown("reset", None))
    lost = await hand.submit("lost")
    await hand.send()
    before = hand.fal.count("status")
    unknown = await voice.tell((await hand.attempts(lost))[0]["id"].hex, "theirs", user_id="github|666")
    assert _status([known, unknown]) == [401, 401]
    assert hand.fal.count("status") == before
    assert voice.count("other_account") == 2
    assert await voice.kept() == 0
    assert await hand.sql("SELECT fal_key_id, user_id FROM fal_accounts") == [
        {"fal_key_id": "the-key", "user_id": ACCOUNT}
    ]


async def test_two_accounts_that_are_learnt_at_once_are_one(voice: Voice, hand: Hand) -> None:
    jobs = [await hand.at_fal(prompt=f"boat {n}") for n in range(6)]
    attempts = [(await hand.attempts(job_id))[0] for job_id in jobs]
    answers = await asyncio.gather(
        *(
            voice.tell(each["id"].hex, each["fal_request_id"], user_id=f"account {n % 2}")
            for n, each in enumerate(attempts)
        )
    )
    assert _status(answers) == [200] * 3 + [401] * 3


async def test_while_fals_keys_are_away_fal_is_asked_to_send_it_again(voice: Voice, hand: Hand) -> None:
    voice.keys.act = answer(503, b"")
    job_id = await hand.at_fal()
    for _ in range(20):
        reply = await voice.tell_job(job_id)
        assert reply.status_code == 503
        assert reply.headers["retry-after"]
    assert len(voice.keys.heard) == 1
    assert not await voice.is_due(job_id)


async def test_one_that_is_too_long_is_refused(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal()
    assert (await voice.tell_job(job_id, payload={"x": "y" * 1_000_000})).status_code == 413


async def test_a_flood_is_one_warning_a_minute(voice: Voice, hand: Hand, caplog: pytest.LogCaptureFixture) -> None:
    job_id = await hand.at_fal()
    attempt = (await hand.attempts(job_id))[0]
    stranger = Signer()
    for _ in range(30):
        forged = await voice.tell(attempt["id"].hex, attempt["fal_request_id"], signer=stranger)
        assert forged.status_code == 401
    assert len([each for each in caplog.records if each.name == "falgate.receive"]) == 1
    assert voice.count("forged_signature") == 30
    assert len(voice.keys.heard) == 1


def _forgeries_of(true: Sent, count: int) -> list[Sent]:
    found: list[Sent] = []

    @settings(max_examples=count, deadline=None, derandomize=True, database=None)
    @given(forgeries(true))
    def gather(sent: Sent) -> None:
        found.append(sent)

    gather()
    return found


async def test_no_forged_one_is_taken_over_http(database_url: str) -> None:
    fal = Signer()
    async with publishing(fal) as keys:
        at = settings_for(database_url, FAL_REST_URL=keys.url, PUBLIC_URL=PUBLIC_URL)
        async with run_gateway(at, work=False) as gateway:
            person = await gateway.make_person()
            job_id = (await gateway.submit(person)).json()["id"]
            async with gateway.wiring.db.plain() as plain:
                attempt = await plain.fetchval(AT_FAL, job_id[4:], gateway.wiring.fal.key_id)
                before = await plain.fetch("SELECT * FROM jobs")
            body = told("the-request")
            true = fal.sign(body, request_id="the-request"), body
            path, sent = f"/webhooks/fal/{attempt.hex}", 0
            for headers, content in _forgeries_of(true, 300):
                if ([(name, value.strip()) for name, value in headers], content) == true:
                    continue  # HTTP itself takes the spaces away
                try:
                    reply = await gateway.client.post(path, headers=headers, content=content)
                except (httpx.LocalProtocolError, httpx.RemoteProtocolError):
                    continue  # no HTTP at all
                sent += 1
                assert reply.status_code in {400, 401}, headers
            assert sent >= 200
            assert len(keys.heard) == 1
            async with gateway.wiring.db.plain() as plain:
                assert await plain.fetch("SELECT * FROM jobs") == before
                assert await plain.fetchval("SELECT count(*) FROM fal_webhooks") == 0
                assert await plain.fetchval("SELECT count(*) FROM fal_accounts") == 0
            assert (await gateway.client.post(path, headers=true[0], content=body)).status_code == 200


AT_FAL = """
WITH a AS (
    INSERT INTO attempts (id, job_id, sent_at, fal_request_id, fal_key_id, status_path, result_path, cancel_path)
    VALUES (gen_random_uuid(), $1, now(), 'the-request', $2, '/s', '/r', '/c') RETURNING id, job_id
)
UPDATE jobs SET status = 'submitted', attempt_id = a.id, fal_request_id = 'the-request', submitted_at = now()
FROM a WHERE jobs.id = a.job_id RETURNING a.id
"""


# The only copy


async def _gone_for_good(voice: Voice) -> None:
    for _ in range(2):
        voice.hand.fal.answer("status", Gone(404))
        await voice.hand.check()
        voice.hand.clock.move(seconds=61)


async def test_when_fal_no_longer_has_the_result_the_job_ends_by_what_the_webhook_carried(
    voice: Voice, hand: Hand
) -> None:
    job_id = await hand.at_fal()
    assert (await voice.tell_job(job_id)).status_code == 200
    hand.fal.answer("status", Gone(404))
    await hand.check()
    assert await hand.status(job_id) == "submitted"  # once proves nothing
    hand.clock.move(seconds=61)
    hand.fal.answer("status", Gone(404))
    await hand.check()
    job = await hand.job(job_id)
    assert (job["status"], job["charged_usd"]) == ("succeeded", "1.40")
    assert job["output"] == {"video": {"url": "https://fal.media/files/told.mp4"}}
    assert await voice.kept() == 0


async def test_an_error_that_a_webhook_carried_ends_the_job_too(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal()
    error = {"status": "ERROR", "error": "Invalid status code: 422", "payload": PROMPT_TOO_LONG}
    assert (await voice.tell_job(job_id, **error)).status_code == 200
    await _gone_for_good(voice)
    job = await hand.job(job_id)
    assert (job["status"], job["charged_usd"], job["error"]["code"]) == ("failed", "0.00", "string-too-long")


async def test_a_webhook_without_an_outcome_leaves_a_job_that_fal_lost_unconfirmed(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal()
    assert (await voice.tell_job(job_id, payload=None, payload_error="no")).status_code == 200
    await _gone_for_good(voice)
    assert await hand.status(job_id) == "unconfirmed"


async def test_an_unconfirmed_job_that_fal_has_lost_ends_by_its_webhook(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal("unconfirmed")
    assert (await voice.tell_job(job_id)).status_code == 200
    hand.fal.answer("status", Gone(404))
    await voice.turn()
    assert await hand.status(job_id) == "succeeded"


async def test_a_locked_account_leaves_the_webhook_as_the_only_copy(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal()
    assert (await voice.tell_job(job_id)).status_code == 200
    hand.fal.answer("status", Trouble("User is locked", 403), Trouble("User is locked", 403))
    await hand.check()
    assert await hand.status(job_id) == "submitted"  # it may be over in a minute
    hand.clock.move(minutes=61)  # a result lives for an hour
    await hand.check()
    job = await hand.job(job_id)
    assert (job["status"], job["charged_usd"]) == ("succeeded", "1.40")


async def test_one_that_comes_while_the_job_ends_leaves_nothing_behind(
    voice: Voice, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    telling: list[asyncio.Task[httpx.Response]] = []
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def resolve_slowly(*all_: Any, **named: Any) -> None:
        telling.append(asyncio.create_task(voice.tell_job(job_id)))
        for _ in range(500):
            if (await hand.sql(waiting))[0]["count"]:
                break
            await asyncio.sleep(0.01)
        await resolve_holds(*all_, **named)

    job_id = await hand.at_fal()
    monkeypatch.setattr(ending, "resolve_holds", resolve_slowly)
    hand.fal.answer("status", DONE)
    await hand.check()
    assert (await telling[0]).status_code == 200
    assert await hand.status(job_id) == "succeeded"
    assert await voice.kept() == 0


async def test_a_job_that_ends_otherwise_forgets_its_webhook(voice: Voice, hand: Hand) -> None:
    job_id = await hand.at_fal()
    assert (await voice.tell_job(job_id)).status_code == 200
    hand.fal.answer("status", Completed("no", None))
    hand.fal.answer("result", failed(422))
    await hand.check()
    assert await hand.status(job_id) == "failed"
    assert await voice.kept() == 0
