"""What a job is charged: DESIGN section 4, "Settle", line by line."""

from decimal import Decimal

import pytest

from app.fal import BillableUnits, Completed
from tests.jobs.hand import Hand, failed, succeeded

EQUAL = BillableUnits("5", Decimal(5))
EQUAL_TOO = BillableUnits("5.000", Decimal("5.000"))
ZERO = BillableUnits("0.0", Decimal("0.0"))
ODD = BillableUnits("3.008", Decimal("3.008"))
UNREADABLE = BillableUnits("-1e9", None)
UNTOLD = "fal did not say what it billed: charged as quoted"
ALL_THE_SAME = "fal answered {} and billed it all the same"
UNSTATED = "fal answered {} and did not say what it billed"


@pytest.mark.parametrize(
    ("result", "kind", "charged", "units", "mark", "note"),
    [
        (succeeded(EQUAL), "settle", "1.40", "5", None, None),
        (succeeded(EQUAL_TOO), "settle", "1.40", "5", None, None),
        (succeeded(None), "settle", "1.40", None, None, UNTOLD),
        (succeeded(ZERO), "void", "0.00", "0", None, "fal billed nothing"),
        (
            succeeded(ODD),
            "settle",
            "1.40",
            "3.008",
            "differs",
            "fal billed 3.008 units, 5 seconds were quoted: charged as quoted",
        ),
        (
            succeeded(UNREADABLE),
            "settle",
            "1.40",
            None,
            "differs",
            "fal billed -1e9 units, 5 seconds were quoted: charged as quoted",
        ),
        *(
            row
            for code in (400, 422, 499)
            for row in (
                (failed(code, EQUAL), "settle", "1.40", "5", None, ALL_THE_SAME.format(code)),
                (failed(code, ZERO), "void", "0.00", "0", None, "fal billed nothing"),
                (
                    failed(code, ODD),
                    "settle",
                    "1.40",
                    "3.008",
                    "differs",
                    "fal billed 3.008 units, 5 seconds were quoted: charged as quoted",
                ),
                (failed(code), "void", "0.00", None, "unstated", UNSTATED.format(code)),
            )
        ),
        *(
            row
            for code in (500, 504)
            for row in (
                (failed(code), "void", "0.00", None, None, f"fal answered {code}: never billed"),
                (failed(code, EQUAL), "void", "0.00", "5", None, f"fal answered {code}: never billed"),
                (failed(code, ODD), "void", "0.00", "3.008", None, f"fal answered {code}: never billed"),
            )
        ),
        # A 200 in the shape of an error, of a request whose status body told of one: no success, so not assumed billed.
        (failed(200), "void", "0.00", None, "unstated", UNSTATED.format(200)),
        (failed(200, EQUAL), "settle", "1.40", "5", None, ALL_THE_SAME.format(200)),
        (failed(200, ZERO), "void", "0.00", "0", None, "fal billed nothing"),
    ],
    ids=str,
)
async def test_a_hold_is_settled_at_what_fal_says_it_billed(
    hands: Hand, result: object, kind: str, charged: str, units: str | None, mark: str | None, note: str | None
) -> None:
    hand = hands
    job_id = await hand.at_fal("running")
    hand.fal.answer("status", Completed(None, None))
    hand.fal.answer("result", result)
    await hand.check()
    job = await hand.job(job_id)
    assert (job["held_usd"], job["charged_usd"]) == ("0.00", charged)
    rows = await hand.sql("SELECT * FROM entries WHERE job_id = $1 ORDER BY booked_at, id", job_id[4:])
    hold, resolving = rows
    assert (hold["kind"], hold["amount_usd"], hold["seconds"]) == ("hold", Decimal("1.40"), Decimal(5))
    assert (resolving["kind"], resolving["amount_usd"]) == (kind, Decimal("1.40"))
    assert resolving["fal_units"] == (None if units is None else Decimal(units))
    assert (resolving["mark"], resolving["note"]) == (mark, note)
    assert (resolving["resolves_id"], resolving["seconds"]) == (hold["id"], Decimal(5))


async def test_ten_seconds_are_quoted_and_settled_as_ten(hands: Hand) -> None:
    job_id = await hands.submit("a long boat", duration="10")
    hands.fal.answer("status", Completed(None, None))
    hands.fal.answer("result", succeeded(BillableUnits("10", Decimal(10))))
    await hands.send()
    await hands.check()
    assert await hands.entries(job_id) == [("hold", "2.80", None), ("settle", "2.80", None)]


async def test_fal_billing_five_of_ten_quoted_seconds_is_marked(hands: Hand) -> None:
    job_id = await hands.submit("a long boat", duration="10")
    hands.fal.answer("status", Completed(None, None))
    hands.fal.answer("result", succeeded(EQUAL))
    await hands.send()
    await hands.check()
    assert await hands.entries(job_id) == [("hold", "2.80", None), ("settle", "2.80", "differs")]
