"""fal's bill beside ours: every planted difference is found on its list, and adjusting leaves nothing that differs."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app.accounts.callers import COMMAND_LINE
from app.fal import Trouble
from app.jobs.ends.adjust import Adjustment, adjust_job, lock_ended_job
from app.jobs.ends.resolve import Resolution, resolve_job
from app.ledger.settles import Extra
from app.reports.fal_bill import adjusting
from app.reports.fal_bill.adjusting import Adjusted
from app.settings import Settings
from tests.ledger.house import FIVE, TEN, House
from tests.ledger.test_exactly_once import book

from .billing import ScriptedBill, at_fal, kept, lines, listed, made, reconciled, run


async def charged(house: House, job_id: UUID) -> Decimal:
    return Decimal((await house.job(job_id))["charged_usd"])


async def adjustments(house: House, job_id: UUID) -> list[tuple[Any, Any, str]]:
    rows = await house.rows(
        "SELECT amount_usd, seconds, note FROM entries WHERE job_id = $1 AND kind = 'adjustment' ORDER BY id", job_id
    )
    return [(row["amount_usd"], row["seconds"], row["note"]) for row in rows]


async def overage(house: House, job_id: UUID, stray: str, *, is_followed: bool = False) -> None:
    """A stray fal request of the job, its bill booked or still to be."""
    await house.execute(
        "INSERT INTO attempts (id, job_id, sent_at, fal_request_id, fal_key_id, stray_check_at)"
        " VALUES (gen_random_uuid(), $1, $2, $3, $4, CASE WHEN $5 THEN now() END)",
        job_id,
        house.clock(),
        stray,
        house.fal.key_id,
        is_followed,
    )
    if not is_followed:
        await book(house, job_id, Extra(kind="overage", source=stray, usd=FIVE, seconds=Decimal(5), note="a stray"))


async def test_every_planted_difference_is_found_and_adjusted_once(house: House) -> None:
    await house.quota(1000)
    bill = ScriptedBill(page=3)
    at = house.clock()
    agreed = await made(house)
    pieces = await made(house)
    dearer, cheaper, free, unbilled = [await made(house) for _ in range(4)]
    void, billed_void = [await made(house, billable="0") for _ in range(2)]
    strayed, strayed_dearer, followed = [await made(house) for _ in range(3)]
    await overage(house, strayed[0], "stray-1")
    await overage(house, strayed_dearer[0], "stray-2")
    await overage(house, followed[0], "stray-3", is_followed=True)
    for fal_request_id in (agreed[1], strayed[1], strayed_dearer[1], followed[1], "stray-1", "stray-3"):
        bill.bill(fal_request_id, "1.40", at)
    for usd in ("1.00", "0.50", "-0.10"):
        bill.bill(pieces[1], usd, at)
    bill.bill(dearer[1], "2.80", at)
    bill.bill(cheaper[1], "1.39", at)
    bill.bill(free[1], "0", at)
    bill.bill(billed_void[1], "1.40", at)
    bill.bill("stray-2", "2.80", at)
    bill.bill("somebody-else", "7.00", at, endpoint="fal-ai/flux/dev", paid_with="Key of Bob")
    bill.bill(unbilled[1], "1.40", at - timedelta(days=400))  # another year's: never read
    house.clock.advance(hours=1)
    late = await made(house)
    running, running_billed = [await at_fal(house) for _ in range(2)]
    bill.bill(running_billed[1], "1.40", house.clock())
    house.clock.advance(days=2)

    first = await reconciled(house, bill)
    assert await listed(house) == {
        "matched": {agreed[1], pieces[1], strayed[1], strayed_dearer[1], followed[1], "stray-1"},
        "differs": {dearer[1], cheaper[1], free[1], billed_void[1], "stray-2"},
        "ours_only": {unbilled[1], late[1]},
        "fal_only": {"somebody-else"},
        "pending": {running_billed[1], "stray-3"},
    }
    assert not first.agrees
    assert (first.sums["differs"].ours_usd, first.sums["differs"].fal_usd) == (4 * FIVE, Decimal("8.39"))
    assert first.sums["differs"].apart_usd == 4 * FIVE + Decimal("0.01")
    (foreign,) = (await lines(house))["fal_only"]
    assert (foreign.job_id, foreign.endpoint, foreign.paid_with) == (None, "fal-ai/flux/dev", "Key of Bob")
    assert await house.audit() == []

    stored = await kept(house)
    again = await reconciled(house, bill)
    assert (again.kept.added, again.kept.withdrawn, again.sums) == (0, 0, first.sums)
    assert await kept(house) == stored

    adjusted = await reconciled(house, bill, adjust=True)
    assert adjusted.adjusted == Adjusted(7, TEN + Decimal("-0.01") - 3 * FIVE + FIVE)
    assert await listed(house) == {
        "matched": {agreed[1], pieces[1], strayed[1], strayed_dearer[1], followed[1], "stray-1", dearer[1], cheaper[1]}
        | {free[1], billed_void[1], "stray-2"},
        "fal_only": {"somebody-else"},
        "pending": {running_billed[1], "stray-3"},
    }
    assert await adjustments(house, dearer[0]) == [(FIVE, 0, f"fal billed 2.80 for {dearer[1]}, 1.40 was charged")]
    assert await adjustments(house, free[0]) == [(-FIVE, -5, f"fal billed nothing for {free[1]}, 1.40 was charged")]
    assert await adjustments(house, billed_void[0]) == [
        (FIVE, 5, f"fal billed 1.40 for {billed_void[1]}, nothing was charged")
    ]
    assert await charged(house, strayed_dearer[0]) == 3 * FIVE
    assert await charged(house, unbilled[0]) == 0
    assert await adjustments(house, void[0]) == await adjustments(house, running[0]) == []
    logged = await house.rows("SELECT actor, after FROM audit_log WHERE action = 'job.adjusted'")
    assert [row["actor"] for row in logged] == ["command line"] * 7
    assert (await reconciled(house, bill, adjust=True)).adjusted == Adjusted()
    assert await house.audit() == []


async def test_a_charge_is_pending_until_fal_was_asked_late_enough(house: House) -> None:
    bill = ScriptedBill()
    _, seen = await made(house)
    bill.bill(seen, "1.40", house.clock())
    job_id, fal_request_id = await made(house)
    house.clock.advance(days=1)
    done = await reconciled(house, bill, adjust=True)
    assert done.agrees
    assert await listed(house) == {"matched": {seen}, "pending": {fal_request_id}}
    house.clock.advance(days=3)
    assert await listed(house) == {"matched": {seen}, "pending": {fal_request_id}}  # fal was not asked again
    assert not (await reconciled(house, bill)).agrees
    assert await listed(house) == {"matched": {seen}, "ours_only": {fal_request_id}}

    adjusted = await reconciled(house, bill, adjust=True)
    assert (adjusted.adjusted, adjusted.agrees) == (Adjusted(1, -FIVE), True)
    assert await listed(house) == {"matched": {seen}}
    bill.bill(fal_request_id, "1.40", house.clock() - timedelta(hours=1))  # it comes all the same, very late
    house.clock.advance(hours=1)
    assert await listed(house) == {"matched": {seen}}
    await reconciled(house, bill)
    assert await listed(house) == {"matched": {seen}, "differs": {fal_request_id}}
    assert (await reconciled(house, bill, adjust=True)).adjusted == Adjusted(1, FIVE)
    assert await charged(house, job_id) == FIVE
    assert [seconds for _, seconds, _ in await adjustments(house, job_id)] == [-5, 5]
    assert await listed(house) == {"matched": {seen, fal_request_id}}
    assert await house.audit() == []


async def test_events_that_fal_withdraws_or_changes_are_let_go(house: House) -> None:
    bill = ScriptedBill()
    job_id, fal_request_id = await made(house)
    event = bill.bill(fal_request_id, "2.80", house.clock())
    bill.bill(fal_request_id, "2.80", house.clock())
    house.clock.advance(hours=1)
    assert (await reconciled(house, bill)).kept.added == 2
    assert (await lines(house))["differs"][0].fal_usd == 2 * TEN
    bill.events = [event]
    gone = (await reconciled(house, bill)).kept
    assert (gone.added, gone.withdrawn) == (0, 1)
    bill.events = []
    bill.bill(fal_request_id, "1.40", event.billed_at)
    changed = await reconciled(house, bill)
    assert (changed.kept.added, changed.kept.withdrawn, changed.agrees) == (1, 1, True)
    assert await charged(house, job_id) == FIVE


async def test_a_bill_that_cannot_be_read_to_its_end_changes_nothing(house: House) -> None:
    bill = ScriptedBill(page=1)
    _, fal_request_id = await made(house)
    bill.bill(fal_request_id, "1.40", house.clock())
    house.clock.advance(days=3)
    await reconciled(house, bill)
    before = await kept(house)
    bill.events = []
    for number in range(3):
        bill.bill(f"other-{number}", "1", house.clock() - timedelta(hours=1))
    house.clock.advance(hours=1)

    async def fail_later() -> None:
        if bill.calls[-1][2] == "1":
            bill.troubles = [Trouble("fal answered 500", 500)]

    bill.during = fail_later
    failed = await run(house, bill, adjust=True)
    assert failed == Trouble("fal answered 500", 500)
    assert await kept(house) == before
    assert await listed(house) == {"matched": {fal_request_id}}
    (last,) = await house.rows("SELECT * FROM reconciliations ORDER BY id DESC LIMIT 1")
    assert (last["error"], last["figures"], last["finished_at"]) == ("fal answered 500", None, house.clock())


@pytest.mark.parametrize(
    ("trouble", "tries"), [(Trouble("fal answered 500", 500), 3), (Trouble("reset"), 3), (Trouble("no", 403), 1)]
)
async def test_what_may_pass_is_tried_again_and_what_may_not_is_not(house: House, trouble: Trouble, tries: int) -> None:
    bill = ScriptedBill(troubles=[trouble] * 5)
    assert await run(house, bill, pauses=(0, 0)) == trouble
    assert len(bill.calls) == tries
    bill.troubles = [trouble] * 2
    assert isinstance(await run(house, bill, pauses=(0, 0)), Trouble) == (tries == 1)


async def test_a_long_period_is_read_in_stretches_of_ninety_days(house: House) -> None:
    bill = ScriptedBill()
    for days in (1, 100, 200):
        bill.bill(f"request-{days}", "1", house.clock() - timedelta(days=days))
    done = await reconciled(house, bill, since=house.clock() - timedelta(days=200))
    assert done.kept.read == 3
    starts, ends = [call[0] for call in bill.calls], [call[1] for call in bill.calls]
    assert starts[1:] == ends[:-1]
    assert max(end - start for start, end in zip(starts, ends, strict=True)) == timedelta(days=90)
    assert (starts[0], ends[-1]) == (house.clock() - timedelta(days=202), house.clock())


async def test_a_late_event_that_moves_the_pages_counts_nothing_twice(house: House) -> None:
    bill = ScriptedBill(page=2)
    at = house.clock()
    for number in range(4):
        bill.bill(f"request-{number}", "1", at - timedelta(hours=2 + number))

    async def another() -> None:
        if bill.calls[-1][2] == "2" and len(bill.events) == 4:
            bill.bill("late", "1", at - timedelta(hours=1))

    bill.during = another
    await reconciled(house, bill)
    assert [row["fal_request_id"] for row in await kept(house)] == [f"request-{number}" for number in (3, 2, 1, 0)]
    await reconciled(house, bill)
    assert len(await kept(house)) == 5


async def test_two_who_adjust_at_once_book_once(house: House, settings: Settings) -> None:
    await house.quota(1000)
    bill = ScriptedBill()
    jobs = [await made(house) for _ in range(6)]
    for _, fal_request_id in jobs:
        bill.bill(fal_request_id, "2.80", house.clock())
    house.clock.advance(hours=1)
    await reconciled(house, bill)
    others = [House(settings, clock=house.clock) for _ in range(3)]
    since, until, zone = house.clock() - timedelta(days=1), house.clock(), settings.zone
    done = await asyncio.gather(
        *(
            adjusting.adjust_period(each.db, since, until, actor=COMMAND_LINE, now=house.clock(), zone=zone)
            for each in (house, *others)
        )
    )
    assert sum(each.entries for each in done) == 6
    assert {await charged(house, job_id) for job_id, _ in jobs} == {TEN}
    assert await house.audit() == []
    for each in others:
        await each.close()


class Killed(Exception):  # noqa: N818  no error of ours
    """The process is gone."""


@pytest.mark.parametrize("after", ["adjust_job", "_log", "_adjust"])
async def test_a_killed_adjusting_goes_on_where_it_was(
    house: House, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    bill = ScriptedBill()
    jobs = [await made(house) for _ in range(3)]
    for _, fal_request_id in jobs:
        bill.bill(fal_request_id, "2.80", house.clock())
    house.clock.advance(hours=1)
    right, calls = getattr(adjusting, after), []

    async def dying(*given: Any, **named: Any) -> Any:
        found = await right(*given, **named)
        calls.append(after)
        if len(calls) == 2:
            raise Killed
        return found

    with monkeypatch.context() as patch:
        patch.setattr(adjusting, after, dying)
        with pytest.raises(Killed):
            await run(house, bill, adjust=True)
    assert await house.audit() == []
    left = (await reconciled(house, bill, adjust=True)).adjusted.entries
    assert left == (1 if after == "_adjust" else 2)
    assert [await charged(house, job_id) for job_id, _ in jobs] == [TEN] * 3
    assert [len(await adjustments(house, job_id)) for job_id, _ in jobs] == [1] * 3
    assert await house.audit() == []


async def test_what_somebody_adjusted_is_shown_and_left_alone(house: House) -> None:
    bill = ScriptedBill()
    generous, right = await made(house), await made(house)
    bill.bill(generous[1], "1.40", house.clock())
    bill.bill(right[1], "2.80", house.clock())
    house.clock.advance(hours=1)
    for job_id, usd in ((generous[0], "-1.40"), (right[0], "1.40")):
        async with house.db.begin_plain() as plain:
            job = await lock_ended_job(plain, job_id)
            note = Adjustment(source="note 1", usd=Decimal(usd), note="with our apologies", by="finance")
            await adjust_job(plain, job, note, now=house.clock(), zone=house.wiring.settings.zone)
    assert (await reconciled(house, bill, adjust=True)).adjusted == Adjusted()
    told = await lines(house)
    (line,) = told["differs"]
    assert (line.fal_request_id, line.ours_usd, line.is_by_hand) == (generous[1], Decimal(0), True)
    assert [line.fal_request_id for line in told["matched"]] == [right[1]]


async def test_the_bill_of_another_account_gives_nothing_back(house: House) -> None:
    bill = ScriptedBill()
    job_id, fal_request_id = await made(house)
    bill.bill("of-the-other-account", "1.40", house.clock())
    house.clock.advance(days=3)
    assert (await reconciled(house, bill, adjust=True)).adjusted == Adjusted()
    assert await listed(house) == {"ours_only": {fal_request_id}, "fal_only": {"of-the-other-account"}}
    assert await charged(house, job_id) == FIVE


@pytest.mark.parametrize("pieces", [("1.40", "-0.40"), ("1.00", "0.40")])
async def test_a_late_part_of_a_bill_whose_beginning_was_never_read_corrects_nothing(
    house: House, pieces: tuple[str, str]
) -> None:
    """Ten days after the job: what is kept of its bill is not all of it."""
    bill, at, late = ScriptedBill(), house.clock(), house.clock() + timedelta(days=10)
    job_id, fal_request_id = await made(house)
    for usd, billed_at in zip(pieces, (at, late), strict=True):
        bill.bill(fal_request_id, usd, billed_at)
    house.clock.advance(days=20)
    hour = timedelta(hours=1)
    narrow = await reconciled(house, bill, adjust=True, since=late - hour, until=late + hour)
    assert (narrow.adjusted, narrow.agrees) == (Adjusted(), False)
    await reconciled(house, bill, adjust=True)
    assert await charged(house, job_id) == sum(map(Decimal, pieces))
    assert await listed(house) == {"matched": {fal_request_id}}
    assert await house.audit() == []


@pytest.mark.parametrize("usd", ["-0.000000001", "1000000.01", "99999999999.999999999"])
async def test_a_bill_that_nobody_can_have_paid_is_shown_and_left_alone(house: House, usd: str) -> None:
    quota = await house.quota("14.00")
    bill = ScriptedBill()
    job_id, fal_request_id = await made(house)
    bill.bill(fal_request_id, usd, house.clock())
    house.clock.advance(days=3)
    assert (await reconciled(house, bill, adjust=True)).adjusted == Adjusted()
    assert await listed(house) == {"differs": {fal_request_id}}
    assert (await charged(house, job_id), await house.usage(quota)) == (FIVE, [(FIVE, 0)])


async def test_a_charge_without_a_fal_request_is_shown_and_left_alone(house: House) -> None:
    bill = ScriptedBill()
    _, seen = await made(house)
    bill.bill(seen, "1.40", house.clock())
    job_id = await house.submit(await house.someone())
    (job,) = await house.claim()
    assert await house.moves.unconfirm(job, "unknown", was=["submitting"])
    await resolve_job(house.rooms, COMMAND_LINE, job_id, Resolution(outcome="charge", note="we used it"))
    house.clock.advance(days=3)
    assert (await reconciled(house, bill, adjust=True)).adjusted == Adjusted()
    (line,) = (await lines(house))["ours_only"]
    assert (line.job_id, line.fal_request_id, line.ours_usd) == (job_id, None, FIVE)


async def test_the_period_decides_which_requests_and_not_which_events(house: House) -> None:
    bill = ScriptedBill()
    before = house.clock()
    _, fal_request_id = await made(house)
    bill.bill(fal_request_id, "1.00", before - timedelta(minutes=1))
    bill.bill(fal_request_id, "0.40", before + timedelta(days=1))
    house.clock.advance(days=3)
    await reconciled(house, bill, since=before, until=before + timedelta(hours=1))
    hour = timedelta(hours=1)
    for since in (before, before - hour, before + timedelta(days=1)):
        assert await listed(house, since=since, until=since + hour) == {"matched": {fal_request_id}}
    assert await listed(house, since=before + hour, until=before + 2 * hour) == {}


async def test_what_was_read_earlier_does_not_replace_what_was_read_later(house: House) -> None:
    slow, quick = ScriptedBill(), ScriptedBill()
    slow.bill("old-news", "1", house.clock() - timedelta(hours=2))
    quick.bill("news", "1", house.clock() - timedelta(hours=1))

    async def be_overtaken() -> None:
        house.clock.advance(seconds=10)
        await reconciled(house, quick)

    slow.during = be_overtaken
    assert isinstance(await run(house, slow), Trouble)
    assert [row["fal_request_id"] for row in await kept(house)] == ["news"]
