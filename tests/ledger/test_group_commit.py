"""Those that arrive together share a transaction, and nothing else: each is guarded, answered and refused alone."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.accounts.callers import KeyUnknown
from app.catalogue.prices import ModelUnpriced
from app.db import is_database_away
from app.jobs.submits import submit as submit_module
from app.jobs.submits.accept import Accepted
from app.jobs.submits.quotes import Replayed, find_callers
from app.ledger.holds import QuotaExceeded
from app.problems import Unavailable
from app.settings import Settings
from tests.conftest import settings_for
from tests.gateway import run_gateway

from .house import House
from .relay import Cut, Relay, relay_to


@asynccontextmanager
async def cuttable(database_url: str) -> AsyncIterator[tuple[House, Relay]]:
    """A house whose way to the database goes through a relay."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        async with relay_to(database_url, Path(folder)) as (relay, url):
            made = House(settings_for(url))
            yield made, relay
            await made.close()


async def together(house: House, *submissions: Any) -> list[Any]:
    """Submit them so that they share a transaction: while another is on its way."""
    first = asyncio.create_task(house.rooms.submits.submit(submissions[0]))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(house.rooms.submits.submit(one)) for one in submissions[1:]]
    return await asyncio.gather(first, *rest, return_exceptions=True)


async def test_each_is_guarded_alone_in_arrival_order(house: House) -> None:
    await house.quota("14.00")
    who = await house.someone()
    asked = [5, 10, 10, 10, 10, 10, 5, 5]  # 1.40 + 4 × 2.80 = 12.60: the sixth does not fit, the seventh does
    outcomes = await together(house, *(house.submission(who, seconds=seconds) for seconds in asked))
    assert [isinstance(one, Accepted) for one in outcomes] == [True] * 5 + [False, True, False]
    blocked: list[Any] = [one.members["quotas"] for one in outcomes if isinstance(one, QuotaExceeded)]
    assert [(one["held"], one["requested"]) for (one,) in blocked] == [("12.60", "2.80"), ("14.00", "1.40")]
    assert await house.audit() == []


async def test_one_that_cannot_be_served_does_not_take_the_others_with_it(house: House) -> None:
    await house.quota("2.80")
    ann, bob = await house.someone(), await house.someone()
    await house.quota("0", scope="user", scope_id=f"user_{bob.user_id.hex}")
    good = house.submission(ann)
    unpriced = replace(good, endpoint=replace(good.endpoint, id="fal-ai/none"))
    unknown = replace(good, secret_hash=b"x" * 32)
    outcomes = await together(
        house,
        good,
        unpriced,
        unknown,
        house.submission(bob),
        house.submission(ann, end_user="\0"),  # Postgres refuses the whole statement: tried one by one
        house.submission(ann, prompt=object()),  # cannot be written as JSON
        good,
        good,
    )
    kinds = [type(one) for one in outcomes]
    assert kinds[:4] == [Accepted, ModelUnpriced, KeyUnknown, QuotaExceeded]
    assert not any(issubclass(kind, Accepted) for kind in kinds[4:6])
    assert kinds[6:] == [Accepted, QuotaExceeded]
    assert await house.value("SELECT count(*) FROM jobs") == 2
    assert await house.audit() == []


async def test_a_caller_that_gives_up_leaves_a_whole_job_or_none(house: House) -> None:
    await house.quota("1000.00")
    who = await house.someone()
    for turn in range(12):
        asking = [asyncio.create_task(house.submit(who)) for _ in range(5)]
        await asyncio.sleep(0.0005 * turn)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(await house.rooms.submits.submit(house.submission(who)), Accepted)
    assert await house.value("SELECT count(*) FROM jobs") == 61  # what had arrived was run all the same
    assert await house.audit() == []


async def test_repeats_in_one_transaction_make_one_job(house: House) -> None:
    who = await house.someone()
    outcomes = await together(house, *(house.submission(who, key="k") for _ in range(10)))
    assert [type(one) for one in outcomes].count(Accepted) == 1
    assert [type(one) for one in outcomes].count(Replayed) == 9
    assert len({one.job_id for one in outcomes}) == 1


async def test_a_repeat_that_fails_does_not_run_what_was_committed_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repeat goes after the transaction that it repeats; by then that one is done for good."""
    who = await house.someone()
    calls = 0

    async def breaks(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:  # the first submit, those that share a transaction, the repeat among them
            raise RuntimeError("broken")
        return await find_callers(*arguments, **more)

    monkeypatch.setattr("app.jobs.submits.accept.find_callers", breaks)
    first, one, other, repeat = await together(
        house,
        house.submission(who),
        house.submission(who),
        house.submission(who, key="k"),
        house.submission(who, key="k"),
    )
    assert all(isinstance(each, Accepted) for each in (first, one, other))
    assert isinstance(repeat, RuntimeError)
    assert await house.value("SELECT count(*) FROM jobs") == 3


@pytest.mark.parametrize("cut", ["before COMMIT", "after COMMIT"])
async def test_a_lost_commit_is_looked_up_and_answered_rightly(database_url: str, cut: Cut) -> None:
    async with cuttable(database_url) as (house, relay):
        quota = await house.quota("14.00")
        who = await house.someone()
        await house.submit(who)
        relay.cut = cut
        outcomes = await together(house, *(house.submission(who) for _ in range(4)))
        assert relay.cuts == 1
        lost, others = outcomes[0], outcomes[1:]
        assert isinstance(lost, Accepted if cut == "after COMMIT" else Unavailable)
        assert all(isinstance(one, Accepted) for one in others)
        made = 5 if cut == "after COMMIT" else 4
        assert await house.value("SELECT count(*) FROM jobs") == made
        told = {one.job_id for one in outcomes if isinstance(one, Accepted)}
        assert await house.value("SELECT count(*) FROM jobs WHERE id = ANY($1)", list(told)) == len(told)
        assert (await house.usage(quota))[0][1] * 100 == made * 140
        assert await house.audit() == []


@pytest.mark.parametrize("cut", ["before COMMIT", "after COMMIT"])
async def test_an_end_whose_commit_is_lost_happens_once(database_url: str, cut: Cut) -> None:
    async with cuttable(database_url) as (house, relay):
        quota = await house.quota("14.00")
        job_id = await house.submit(await house.someone())
        relay.cut = cut
        with pytest.raises(Exception) as away:  # noqa: PT011
            await house.end(job_id)
        assert is_database_away(away.value)
        assert await house.end(job_id) is (cut == "before COMMIT")
        assert await house.kinds(job_id) == ["hold", "settle"]
        assert (await house.usage(quota))[0][1] == 0
        assert await house.audit() == []


async def test_a_lost_commit_while_the_database_stays_away_says_that_nobody_knows(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit_module, "_LOOK_UP_SECONDS", 0.5)
    async with cuttable(database_url) as (house, relay):
        who = await house.someone()
        relay.cut = "after COMMIT"

        async def stays_away() -> None:
            while relay.cuts == 0:  # noqa: ASYNC110
                await asyncio.sleep(0)
            relay.cut_off()

        leaving = asyncio.create_task(stays_away())
        with pytest.raises(Unavailable, match="may have been accepted"):
            await house.submit(who)
        await leaving
        relay.cut = "never"
        assert await house.value("SELECT count(*) FROM jobs") == 1
        assert await house.audit() == []


async def test_a_database_that_is_away_is_a_503_and_nothing_is_stored(database_url: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        async with (
            relay_to(database_url, Path(folder)) as (relay, url),
            run_gateway(settings_for(url), work=False) as gateway,
        ):
            ann = await gateway.make_person()
            relay.cut_off()
            answers = await asyncio.gather(*(gateway.submit(ann) for _ in range(8)))
            assert {answer.status_code for answer in answers} == {503}
            assert all(answer.json()["code"] == "unavailable" for answer in answers)
            assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
            relay.cut = "never"
            assert (await gateway.submit(ann)).status_code == 202
            listed = await gateway.client.get("/v1/jobs", headers=ann.headers)
            assert len(listed.json()["data"]) == 1


async def test_two_replicas_share_no_transaction_and_no_key(house: House, settings: Settings) -> None:
    other, who = House(settings), await house.someone()
    submits = [at.rooms.submits.submit(house.submission(who, key=f"k{n}")) for n in range(8) for at in (house, other)]
    outcomes = await asyncio.gather(*submits)
    assert [type(one) for one in outcomes].count(Accepted) == 8
    assert await house.value("SELECT count(*) FROM jobs") == 8
    await other.close()
