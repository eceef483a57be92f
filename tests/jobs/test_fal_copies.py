"""What fal keeps of a forgotten job is erased there too, with FAL_ADMIN_KEY."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from app.fal import Trouble, alias_ref
from app.jobs.at_fal.claims import Claimed
from app.jobs.at_fal.moves import Moves
from app.jobs.forgetting import fal_copies
from app.jobs.forgetting.fal_copies import PAUSES_SECONDS
from tests.jobs.forgotten import PROMPT, made
from tests.jobs.hand import TEXT, Hand, by_hand


@pytest.fixture
def hand(swept_hand: Hand) -> Hand:
    """One database for all of them: none leaves a job to the next."""
    return swept_hand


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
