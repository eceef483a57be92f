"""Forgetting: by hand, by PAYLOAD_DAYS and at fal. What was asked and made is nowhere; what it cost stays."""

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.fal import Completed, LogLine, Trouble, alias_ref
from app.ids import first_id
from app.jobs.at_fal.claims import Claimed
from app.jobs.at_fal.log_keeping import LogKeeper, _News
from app.jobs.at_fal.moves import Moves
from app.jobs.forgetting import fal_copies
from app.jobs.forgetting import retention as forgetting
from app.jobs.forgetting.fal_copies import PAUSES_SECONDS
from app.jobs.forgetting.forget import forget_jobs
from app.jobs.forgetting.retention import Forgetting
from app.settings import Settings
from tests.conftest import settings_for
from tests.deliveries.receiver import Receiver, answer, receiving
from tests.gateway import ADMIN, Gateway, run_gateway
from tests.http.world import PNG, find_in_rows
from tests.jobs.conftest import settings_at
from tests.jobs.hand import TEXT, VIDEO, Hand, by_hand, failed, rest, until
from tests.jobs.test_lost import waiting_for_locks
from tests.sandbox.running import Sandbox

PROMPT = "a canary in a coal mine"
URL = str(VIDEO["video"]["url"])  # type: ignore[index]
DONE = Completed(None, None)


@pytest.fixture
def hand(swept_hand: Hand) -> Hand:
    """One database for all of them: none leaves a job to the next."""
    return swept_hand


async def made(hand: Hand, prompt: str = PROMPT, **fields: Any) -> str:
    """A job that has succeeded."""
    job_id = await hand.submit(prompt, **fields)
    await hand.send()
    hand.fal.answer("status", DONE)
    await hand.check()
    assert await hand.status(job_id) == "succeeded"
    return job_id


async def ended(hand: Hand, *, days_ago: float) -> str:
    """A job that ended so long ago."""
    job_id = await hand.submit()
    await hand.cancel(job_id)
    await hand.sql("UPDATE jobs SET finished_at = $2 WHERE id = $1", job_id[4:], ago(hand, days_ago))
    return job_id


def ago(hand: Hand, days: float) -> datetime:
    return hand.clock() - timedelta(days=days)


async def write_everywhere(hand: Hand, job_id: str) -> None:
    """What its prompt and its video's URL may stand in, beside the job's own input and output."""
    told, attempt = json.dumps({"body": {"detail": f"{PROMPT} {URL}"}}), (await hand.row(job_id))["attempt_id"]
    await hand.sql("UPDATE jobs SET fal_reply = $2::text::json WHERE id = $1", job_id[4:], told)
    await hand.sql("INSERT INTO job_logs VALUES ($1, 0, '', 'INFO', 'USER', $2)", job_id[4:], f"{PROMPT} {URL}")
    await hand.sql("INSERT INTO payloads VALUES ($1, $2::text::json)", job_id[4:], told)
    await hand.sql("INSERT INTO fal_webhooks VALUES ($1, $2, 'x', $3::text::json, now())", attempt, job_id[4:], told)


async def test_neither_prompt_nor_video_stands_anywhere_afterwards_and_the_money_does(hand: Hand) -> None:
    job_id = await made(hand, webhook_url="https://hooks.example.com/", tags={"film": "boat"}, end_user="visitor 1")
    await write_everywhere(hand, job_id)
    before, entries = await hand.job(job_id), await hand.entries(job_id)
    places = {"jobs", "deliveries", "job_logs", "payloads", "fal_webhooks"}
    for needle in (PROMPT, URL):
        assert set(await find_in_rows(hand.gateway, needle)) == places
    assert await hand.forget(job_id) == 204
    for needle in (PROMPT, URL):
        assert await find_in_rows(hand.gateway, needle) == []
    job = await hand.job(job_id)
    erased = {"input": None, "output": None, "expires_at": None, "content_url": None}
    erased |= {"payload_erased_at": job["payload_erased_at"]}
    assert job == before | erased | {"version": before["version"] + 1}
    assert job["payload_erased_at"] is not None
    assert (job["charged_usd"], job["tags"], job["end_user"]) == ("1.40", {"film": "boat"}, "visitor 1")
    assert await hand.entries(job_id) == entries
    for call, status in (("", 404), ("/status", 200)):
        at_fal = f"/fal/fal-ai/kling-video/requests/{job_id}{call}"
        answered = await hand.gateway.client.get(at_fal, headers=hand.person.headers)
        assert answered.status_code == status, answered.text
    listed = await hand.gateway.client.get("/v1/jobs?limit=1", headers=hand.person.headers)
    assert listed.json()["data"] == [job]


async def test_an_error_keeps_what_it_is_called_and_loses_what_it_said(hand: Hand) -> None:
    job_id = await hand.at_fal(prompt=PROMPT)
    hand.fal.answer("status", Completed("no", "content_policy_violation"))
    hand.fal.answer("result", failed(422, type_="content_policy_violation"))
    await hand.check()
    await hand.sql(
        "UPDATE jobs SET error = (error::jsonb || jsonb_build_object('detail', $2::text))::json WHERE id = $1",
        job_id[4:],
        f"we do not draw {PROMPT}",
    )
    before = (await hand.job(job_id))["error"]
    assert PROMPT in before["detail"]
    assert await hand.forget(job_id) == 204
    assert (await hand.job(job_id))["error"] == before | {"detail": "It was erased with the input."}
    assert await find_in_rows(hand.gateway, PROMPT) == []


async def test_only_what_has_ended_is_erased_and_once(hand: Hand) -> None:
    job_id = await hand.submit(PROMPT)
    path, mine = f"/v1/jobs/{job_id}/payload", hand.person.headers
    for status in ("queued", "submitting", "submitted", "running", "unconfirmed"):
        await hand.sql("UPDATE jobs SET status = $2 WHERE id = $1", job_id[4:], status)
        refused = await hand.gateway.client.delete(path, headers=mine)
        assert (refused.status_code, refused.json()["code"]) == (409, "job-not-ended")
        assert refused.json()["job_status"] == status
    await hand.sql("UPDATE jobs SET status = 'queued' WHERE id = $1", job_id[4:])
    assert (await hand.job(job_id))["input"]["prompt"] == PROMPT
    assert await hand.cancel(job_id) == 200
    assert await hand.forget(job_id) == 204
    erased = await hand.job(job_id)
    hand.clock.move(hours=1)
    assert await hand.forget(job_id) == 204
    assert await hand.job(job_id) == erased
    log = (await hand.gateway.client.get(f"/v1/audit-log?object_id={job_id}", headers=ADMIN)).json()["data"]
    assert [(entry["action"], entry["actor"]) for entry in log] == [
        ("job.payload_erased", f"{hand.person.user_id}/{hand.person.key_id}")
    ]
    assert [log[0]["before"], log[0]["after"].keys()] == [None, {"payload_erased_at"}]


async def test_two_at_once_erase_once(hand: Hand) -> None:
    job_id = await ended(hand, days_ago=0)
    assert await asyncio.gather(*(hand.forget(job_id) for _ in range(5))) == [204] * 5
    assert (await hand.sql("SELECT count(*) FROM audit_log WHERE object_id = $1", job_id)) == [{"count": 1}]


async def test_finance_erases_its_own_jobs_only(hand: Hand) -> None:
    finance, job_id = await hand.gateway.make_person("finance"), await ended(hand, days_ago=0)
    path = f"/v1/jobs/{job_id}/payload"
    assert (await hand.gateway.client.delete(path, headers=finance.headers)).json()["code"] == "role-forbidden"
    await hand.sql("UPDATE jobs SET user_id = $2 WHERE id = $1", job_id[4:], finance.user_id[5:])
    assert (await hand.gateway.client.delete(path, headers=finance.headers)).status_code == 204


async def test_asking_again_with_its_idempotency_key_gives_the_erased_job(hand: Hand) -> None:
    asked: dict[str, Any] = {"prompt": PROMPT, "headers": {"Idempotency-Key": str(uuid4())}}
    job_id = (await hand.gateway.submit(hand.person, **asked)).json()["id"]
    await hand.cancel(job_id)
    await hand.forget(job_id)
    again = await hand.gateway.submit(hand.person, **asked)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert (again.json()["id"], again.json()["input"]) == (job_id, None)


async def test_a_line_that_is_kept_while_its_job_is_erased_does_not_stay(hand: Hand) -> None:
    """Its statement began before the erasing was committed."""
    job_id, wiring = await ended(hand, days_ago=0), hand.gateway.wiring
    uuid, keeper = UUID(job_id[4:]), LogKeeper(wiring, hand.rooms.hub)
    news = _News(uuid, 0, [LogLine(PROMPT, "INFO", "USER", None)])
    async with wiring.db.begin_plain() as plain:
        assert await forget_jobs(plain, [uuid], wiring=wiring, now=hand.clock()) == [uuid]
        keeping = asyncio.create_task(keeper._write([news]))
        await waiting_for_locks(hand)
    assert await keeping == [False]
    assert await find_in_rows(hand.gateway, PROMPT) == []


# Deliveries


@pytest.fixture
def private(database_url: str) -> Settings:
    return settings_for(database_url, WEBHOOK_ALLOW_PRIVATE="true")


async def told(hand: Hand, job_id: str) -> tuple[dict[str, Any], int]:
    """Its delivery, and the answer to asking for it again."""
    client, mine = hand.gateway.client, hand.person.headers
    (delivery,) = (await client.get(f"/v1/deliveries?job_id={job_id}", headers=mine)).json()["data"]
    again = await client.post(f"/v1/deliveries/{delivery['id']}/redeliver", headers=mine)
    assert again.status_code != 409 or again.json()["code"] == "delivery-erased"
    return delivery, again.status_code


async def turn_sender(hand: Hand) -> None:
    await hand.rooms.sender._turn(150)
    await rest(hand.rooms.sender.loop)


async def test_what_is_being_told_meanwhile_is_told_no_more(private: Settings) -> None:
    async with by_hand(private) as hand, receiving() as receiver:
        pending = await made(hand, webhook_url=receiver.url)
        assert await hand.forget(pending) == 204
        await turn_sender(hand)
        assert receiver.received == []
        delivery, again = await told(hand, pending)
        assert (delivery["status"], delivery["error"]) == ("failed", "erased before it was delivered")
        assert again == 409
        delivered = await made(hand, webhook_url=receiver.url)
        await turn_sender(hand)
        assert await hand.forget(delivered) == 204
        delivery, again = await told(hand, delivered)
        assert (delivery["status"], delivery["error"], again) == ("delivered", None, 409)
        await _erase_while_it_is_tried(hand, receiver)
        await turn_sender(hand)
        assert len(receiver.received) == 2, "the one delivered, and the one whose try was under way"
        assert await find_in_rows(hand.gateway, PROMPT) == []


async def _erase_while_it_is_tried(hand: Hand, receiver: Receiver) -> None:
    answering = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        await answering.wait()
        await answer(200)(writer)

    receiver.then(slowly)
    job_id, before = await made(hand, webhook_url=receiver.url), len(receiver.received)
    await hand.rooms.sender._turn(150)
    await until(lambda: len(receiver.received) == before + 1)
    assert await hand.forget(job_id) == 204
    answering.set()
    await rest(hand.rooms.sender.loop)
    delivery, again = await told(hand, job_id)
    assert (delivery["status"], delivery["response_status"], again) == ("failed", None, 409)


# fal's copy


@pytest.fixture
def with_admin_key(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> Hand:
    monkeypatch.setattr(hand.fal.list, "erases_payloads", True)
    return hand


async def copies(hand: Hand) -> list[dict[str, Any]]:
    return await hand.sql("SELECT * FROM erasures WHERE erased_at IS NULL ORDER BY fal_request_id")


def asked(hand: Hand) -> list[str]:
    return [call.removeprefix("erase ") for call in hand.fal.list.calls if call.startswith("erase ")]


async def test_fal_is_asked_for_every_request_of_the_job_even_if_the_first_to_ask_was_killed(
    with_admin_key: Hand,
) -> None:
    hand = with_admin_key
    job_id = await made(hand)
    (current,) = await hand.attempts(job_id)
    await hand.sql(
        "INSERT INTO attempts (id, job_id, sent_at, fal_request_id, fal_key_id) SELECT gen_random_uuid(), $1, now(), f,"
        " 'the-key' FROM unnest($2::text[]) f",
        job_id[4:],
        ["older", None],
    )
    assert await hand.forget(job_id) == 204
    assert asked(hand) == [], "whoever erased here is gone before it asks fal"
    assert len(await copies(hand)) == 2
    async with by_hand(hand.gateway.wiring.settings, shared=True) as other:
        other.fal.list.erases_payloads = True
        await other.erase_copies()
        assert set(asked(other)) == {current["fal_request_id"], "older"}
    assert await copies(hand) == []
    await hand.erase_copies()
    assert asked(hand) == []


async def test_killed_between_fals_word_and_its_row_fal_is_asked_once_more(
    with_admin_key: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = with_admin_key
    await hand.forget(await made(hand))

    async def die() -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as killed:
        killed.setattr(hand.fal.list, "during", die)
        await hand.erase_copies()
    (left,) = await copies(hand)
    assert (left["tries"], left["error"]) == (1, None)
    await hand.erase_copies()
    assert len(asked(hand)) == 1, "its lease stands"
    await hand.sql("UPDATE erasures SET next_try_at = now() WHERE next_try_at IS NOT NULL")
    await hand.erase_copies()
    assert await copies(hand) == []


async def test_fal_is_asked_for_days_ever_more_seldom_and_then_the_operator_is_told(
    with_admin_key: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    hand = with_admin_key
    await hand.forget(await made(hand))
    hand.fal.list.trouble = Trouble("fal answered 500", 500)
    pauses = []
    for _ in PAUSES_SECONDS:
        assert not [record for record in caplog.records if record.name == "falgate.forget"]
        await hand.sql("UPDATE erasures SET next_try_at = now() WHERE next_try_at IS NOT NULL")
        await hand.erase_copies()
        (row,) = await hand.sql(
            "SELECT error, round(extract(epoch FROM next_try_at - now()) / 60)::int AS minutes FROM erasures"
            " WHERE erased_at IS NULL"
        )
        pauses.append(row["minutes"])
        assert row["error"] == "fal answered 500"
    assert pauses == [*(round(seconds / 60) for seconds in PAUSES_SECONDS[:-1]), None]
    assert sum(PAUSES_SECONDS[:-1]) > 3 * 24 * 3600
    (line,) = [record.getMessage() for record in caplog.records if record.name == "falgate.forget"]
    assert "fal answered 500" in line
    assert PROMPT not in line
    await hand.erase_copies()
    assert len(asked(hand)) == len(PAUSES_SECONDS)


async def test_while_fal_refuses_our_key_it_is_not_asked_for_the_others(with_admin_key: Hand) -> None:
    hand = with_admin_key
    for _ in range(3):
        await hand.forget(await made(hand))
    hand.fal.list.trouble = Trouble("fal answered 401", 401)
    await hand.erase_copies()
    assert len(asked(hand)) == fal_copies._AT_ONCE
    await hand.erase_copies()
    assert len(asked(hand)) == fal_copies._AT_ONCE
    hand.rooms.fal_copies._quiet_until = 0.0
    hand.fal.list.trouble = None
    await hand.sql("UPDATE erasures SET next_try_at = now() WHERE next_try_at IS NOT NULL")
    for _ in range(2):
        await hand.erase_copies()
    assert await copies(hand) == []


async def test_fal_is_not_asked_about_another_account_nor_yet_about_what_may_still_run(with_admin_key: Hand) -> None:
    hand = with_admin_key
    job_id = await made(hand)
    await hand.sql(
        "INSERT INTO fal_accounts VALUES ('the-key', 'us', now()), ('before', 'us', now()), ('theirs', 'them', now())"
    )
    await hand.sql(
        "INSERT INTO attempts (id, job_id, sent_at, fal_request_id, fal_key_id, stray_check_at) SELECT"
        " gen_random_uuid(), $1, now(), 'of ' || k, k, CASE WHEN k = 'the-key' THEN now() END"
        " FROM unnest('{the-key,before,theirs,unknown}'::text[]) k",
        job_id[4:],
    )
    await hand.forget(job_id)
    for _ in range(3):
        await hand.erase_copies()
    (current,) = [one for one in await hand.attempts(job_id) if not one["fal_request_id"].startswith("of ")]
    assert set(asked(hand)) == {current["fal_request_id"], "of before", "of unknown"}
    assert [row["fal_request_id"] for row in await copies(hand)] == ["of the-key"]


async def test_what_fal_names_only_after_the_erasing_is_erased_there_too(with_admin_key: Hand) -> None:
    """An admin has ended the job; then the lost answer comes, or fal's webhook or list names the request."""
    hand = with_admin_key
    for outcome, is_stray in (({"outcome": "void"}, True), ({"outcome": "charge"}, False)):
        job_id = await hand.lose()
        (attempt,) = await hand.attempts(job_id)
        assert await hand.resolve(job_id, **outcome) == 200
        assert await hand.forget(job_id) == 204
        await hand.erase_copies()
        assert asked(hand) == []
        moves, name = Moves(hand.gateway.wiring), f"named after the {outcome['outcome']}"
        job = Claimed(job_id=UUID(job_id[4:]), attempt_id=attempt["id"], checks=0, cancel_requested_at=None)
        ref = alias_ref(TEXT, name.replace(" ", "-"))
        for _ in range(2):
            assert await moves.accepted(job, ref, position=None) is not is_stray
        await hand.erase_copies()
        (copy,) = await hand.sql("SELECT * FROM erasures WHERE job_id = $1", job_id[4:])
        assert copy["fal_request_id"] == ref.fal_request_id
        assert (copy["erased_at"] is None) is is_stray, "what may still run is erased a day later"
        hand.fal.list.calls.clear()


async def test_without_an_admin_key_nothing_is_written_and_nobody_is_asked(hand: Hand) -> None:
    await hand.forget(await made(hand))
    assert await copies(hand) == []
    await hand.sql("INSERT INTO erasures SELECT 'left', id, 'the-key', 0, now() FROM jobs LIMIT 1")
    await hand.erase_copies()
    assert asked(hand) == []


# PAYLOAD_DAYS


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "_OLD", forgetting._OLD.replace(f"FIRST {forgetting._BATCH} ", "FIRST 2 "))


async def forget_old(hand: Hand) -> list[int]:
    """Turns until there is nothing left; how many each found."""
    await hand.sql("UPDATE forgetting SET through = NULL")
    return await forget_on(hand)


async def forget_on(hand: Hand) -> list[int]:
    found = [await hand.rooms.forgetting._turn(1)]
    while found[-1]:
        found.append(await hand.rooms.forgetting._turn(1))
    return found


async def remembered(hand: Hand) -> set[str]:
    rows = await hand.sql("SELECT id FROM jobs WHERE payload_erased_at IS NULL AND input::text <> 'null'")
    return {f"job_{row['id'].hex}" for row in rows}


@pytest.mark.usefixtures("small_batches")
async def test_what_ended_longer_ago_is_erased_batch_after_batch_and_never_looked_at_again(hand: Hand) -> None:
    old = [await ended(hand, days_ago=40 - n) for n in range(3)]
    by_hand_before = await ended(hand, days_ago=36.5)
    assert await hand.forget(by_hand_before) == 204
    at_once = [await ended(hand, days_ago=36) for _ in range(3)]
    moment = ago(hand, 36)
    for job_id in at_once:
        await hand.sql("UPDATE jobs SET finished_at = $2 WHERE id = $1", job_id[4:], moment)
    young, open_ = await ended(hand, days_ago=29), await hand.submit("still open")
    await hand.sql("UPDATE jobs SET created_at = $2 WHERE id = $1", open_[4:], ago(hand, 60))
    assert await forget_old(hand) == [2, 2, 3, 0], "those that ended together go together"
    assert await remembered(hand) == {young, open_}
    assert await forget_on(hand) == [0]
    await hand.sql("UPDATE jobs SET finished_at = $2 WHERE id = $1", young[4:], ago(hand, 31))
    assert await forget_on(hand) == [1, 0]
    assert await remembered(hand) == {open_}
    assert {(await hand.job(job_id))["charged_usd"] for job_id in (*old, *at_once)} == {"0.00"}
    await hand.cancel(open_)


async def test_a_clock_that_runs_ahead_erases_nothing_early_and_one_that_went_back_leaves_nothing_out(
    hand: Hand,
) -> None:
    young = await ended(hand, days_ago=29)
    hand.clock.move(days=300)
    assert await forget_old(hand) == [0], "what is erased is old by the database's clock too"
    hand.clock.move(days=-300)
    await hand.sql("UPDATE forgetting SET through = $1", ago(hand, -10))
    assert await forget_on(hand) == [0]
    assert await remembered(hand) == {young}
    await hand.sql("UPDATE jobs SET finished_at = $2 WHERE id = $1", young[4:], ago(hand, 30.00001))
    await hand.sql("UPDATE forgetting SET through = $1", ago(hand, 30.00002))
    assert await forget_on(hand) == [1, 0]
    assert await remembered(hand) == set()


async def test_what_ended_by_a_clock_that_was_behind_is_erased_too(hand: Hand) -> None:
    """Its `finished_at` lies before what had been gone through when it was written."""
    hand.clock.move(days=-40)
    await hand.sql("UPDATE forgetting SET through = now() - interval '31 days'")
    assert await forget_on(hand) == [0]
    late = await ended(hand, days_ago=0)
    assert await remembered(hand) == {late}
    hand.clock.move(days=40)
    assert await forget_on(hand) == [1, 0]
    assert await remembered(hand) == set()


async def test_two_replicas_erase_each_once(hand: Hand) -> None:
    jobs = [await ended(hand, days_ago=31) for _ in range(10)]
    await hand.sql("UPDATE forgetting SET through = NULL")
    wiring = hand.gateway.wiring
    both = [Forgetting(wiring, hand.rooms.fal_copies) for _ in range(2)]
    before = {job_id: (await hand.job(job_id))["version"] for job_id in jobs}
    await asyncio.gather(*(one._turn(1) for one in both))
    assert await remembered(hand) == set()
    assert {job_id: (await hand.job(job_id))["version"] for job_id in jobs} == {
        job_id: version + 1 for job_id, version in before.items()
    }


async def test_killed_before_the_commit_nothing_is_erased_and_the_next_one_does_it(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await ended(hand, days_ago=31)
    await hand.sql("UPDATE forgetting SET through = NULL")

    async def die(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as killed:
        killed.setattr(forgetting, "forget_jobs", die)
        with pytest.raises(asyncio.CancelledError):
            await hand.rooms.forgetting._turn(1)
    assert await remembered(hand) == {job_id}
    assert await forget_on(hand) == [1, 0]
    assert await remembered(hand) == set()


async def test_who_uploaded_which_file_is_forgotten_too(hand: Hand) -> None:
    row = await hand.row(await ended(hand, days_ago=0))
    for days in (31, 29):
        made_at = ago(hand, days)
        await hand.sql(
            "INSERT INTO files (id, user_id, team_id, key_id, name, content_type, url, created_at)"
            " VALUES ($1, $2, $3, $4, 'canary.png', 'image/png', 'https://fal.media/canary.png', $5)",
            first_id(made_at), row["user_id"], row["team_id"], row["key_id"], made_at,
        )  # fmt: skip
    await forget_old(hand)
    (kept,) = await hand.sql("DELETE FROM files RETURNING created_at")
    assert kept["created_at"] > ago(hand, 30)


async def test_an_index_finds_what_is_old_among_many(hand: Hand) -> None:
    """However many are erased already, and however many are young."""
    job_id = await ended(hand, days_ago=31)
    await hand.sql(
        "INSERT INTO jobs (id, status, model, endpoint, input, seconds, quoted_usd, held_usd, charged_usd, price_id,"
        " quota_usage_ids, user_id, team_id, key_id, created_at, queued_at, finished_at, payload_erased_at)"
        " SELECT gen_random_uuid(), 'failed', model, endpoint, '{}', seconds, 0, 0, 0, price_id, '{}', user_id,"
        " team_id, key_id, created_at, queued_at, finished_at + make_interval(secs => n), CASE WHEN n < 0 THEN now()"
        " END FROM jobs, generate_series(-10000, 10000) n WHERE id = $1 AND n <> 0",
        job_id[4:],
    )
    await hand.sql("ANALYZE jobs")
    (row,) = await hand.sql("SELECT finished_at FROM jobs WHERE id = $1", job_id[4:])
    through, moment = row["finished_at"] - timedelta(milliseconds=1), row["finished_at"] + timedelta(seconds=50)
    (told,) = await hand.sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {forgetting._OLD}", through, moment)
    (plan,) = (each["Plan"] for each in told["QUERY PLAN"])
    assert "jobs_finished_at_idx" in json.dumps(plan)
    assert plan["Actual Rows"] == 50
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 100
    async with hand.gateway.wiring.db.begin_plain() as plain:
        await plain.execute("SET LOCAL session_replication_role = replica; DELETE FROM jobs WHERE status = 'failed'")


# At a fal of one's own


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def none_left(gateway: Gateway, what: str) -> None:
    """Wait until no such row is left."""
    for _ in range(1000):
        async with gateway.wiring.db.plain() as plain:
            if not await plain.fetchval(f"SELECT count(*) FROM {what}"):  # noqa: S608  ours
                return
        await asyncio.sleep(0.02)
    raise AssertionError(what)


async def test_in_the_archive_and_at_the_sandbox_nothing_is_left_either(
    database_url: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    more = {"FAL_API_URL": f"{sandbox.url}/v1", "FAL_ADMIN_KEY": "an-admin-of-fal:its-secret"}
    more |= {"FAL_REST_URL": sandbox.url, "OUTPUT_STORE": str(tmp_path)}
    async with run_gateway(settings_at(database_url, sandbox.url, **more)) as gateway:
        ann = await gateway.make_person()
        body = {"prompt": PROMPT, "image_url": PNG}
        headers = ann.headers | {"Prefer": "wait=20"}
        job = (await gateway.client.post("/v1/image-to-video", json=body, headers=headers)).json()
        assert job["status"] == "succeeded"
        url = job["output"]["video"]["url"]
        sent = await asyncio.to_thread(sandbox.requests)
        assert [request["input"]["prompt"] for request in sent] == [PROMPT]
        await none_left(gateway, "outputs WHERE stored_at IS NULL")
        assert [path.suffix for path in files_in(tmp_path)] == [".mp4"]
        gone = await gateway.client.delete(f"/v1/jobs/{job['id']}/payload", headers=ann.headers)
        assert gone.status_code == 204
        assert files_in(tmp_path) == []
        content = await gateway.client.get(f"/v1/jobs/{job['id']}/content", headers=ann.headers)
        assert content.status_code == 410
        await none_left(gateway, "erasures WHERE erased_at IS NULL")
        assert [request["erased"] for request in await asyncio.to_thread(sandbox.requests)] == [True]
        shown = json.dumps(await asyncio.to_thread(sandbox.requests))
        for needle in (PROMPT, url, "base64"):
            assert needle not in shown
            assert await find_in_rows(gateway, needle) == []
        assert (await asyncio.to_thread(sandbox.http.head, url)).status_code == 404
