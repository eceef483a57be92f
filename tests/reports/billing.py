"""fal's bill as a test scripts it, jobs that ended at fal, and reconciling them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from app.accounts.callers import COMMAND_LINE
from app.fal import BillingEvent, BillPage, Completed, Platform, Succeeded, Trouble
from app.reports.fal_bill.lists import LISTS, Line, read_lines
from app.reports.fal_bill.run import Reconciled, reconcile
from app.reports.fal_bill.runs import begin_run
from tests.ledger.house import House, units

TEXT = "fal-ai/kling-video/v2.1/master/text-to-video"


@dataclass
class ScriptedBill:
    """Tells its events by pages of `page`; `troubles` come first, one a call."""

    events: list[BillingEvent] = field(default_factory=list)
    page: int = 10_000
    troubles: list[Trouble] = field(default_factory=list)
    calls: list[tuple[datetime, datetime, str | None]] = field(default_factory=list)
    during: Callable[[], Awaitable[None]] | None = None

    def bill(self, fal_request_id: str, usd: str, at: datetime, **more: Any) -> BillingEvent:
        given: dict[str, Any] = {
            "endpoint": TEXT,
            "units": Decimal(5),
            "unit_price_usd": Decimal("0.28"),
            "paid_with": "Key a",
        } | more
        event = BillingEvent(fal_request_id, billed_at=at, usd=Decimal(usd), **given)
        self.events.append(event)
        return event

    async def bill_page(self, since: datetime, until: datetime, cursor: str | None = None) -> BillPage | Trouble:
        self.calls.append((since, until, cursor))
        if self.during is not None:
            await self.during()
        if self.troubles:
            return self.troubles.pop(0)
        told = sorted((e for e in self.events if since <= e.billed_at < until), key=lambda e: e.billed_at, reverse=True)
        first = int(cursor or 0)
        page = tuple(told[first : first + self.page])
        return BillPage(page, str(first + self.page) if first + self.page < len(told) else None)


async def made(house: House, *, billable: str | None = "5", seconds: int = 5) -> tuple[UUID, str]:
    """A job that fal made and that was charged; what fal calls it."""
    job_id, fal_request_id = await at_fal(house, seconds=seconds)
    house.fal.status_outcome = Completed(None, None)
    house.fal.result_outcome = Succeeded({"video": {"url": "https://v"}}, units(billable) if billable else None)
    await house.make_due()
    await house.track()
    assert (await house.job(job_id))["status"] == "succeeded"
    return job_id, fal_request_id


async def at_fal(house: House, *, seconds: int = 5) -> tuple[UUID, str]:
    """A job that fal has; what fal calls it."""
    job_id = await house.submit(await house.someone(), seconds=seconds)
    await house.send()
    return job_id, str((await house.job(job_id))["fal_request_id"])


async def run(
    house: House,
    bill: ScriptedBill,
    *,
    adjust: bool = False,
    since: datetime | None = None,
    until: datetime | None = None,
    pauses: tuple[float, ...] = (),
) -> Reconciled | Trouble:
    """`falgate reconcile`, of the last 35 days."""
    until = until or house.clock()
    since = since or house.clock() - timedelta(days=35)
    run_id = await begin_run(house.db, since, until, by="test", now=house.clock())
    return await reconcile(
        house.db,
        cast("Platform", bill),
        run_id,
        since,
        until,
        clock=house.clock,
        zone=house.wiring.settings.zone,
        adjusts=COMMAND_LINE if adjust else None,
        pauses=pauses,
    )


async def reconciled(house: House, bill: ScriptedBill, *, adjust: bool = False, **more: Any) -> Reconciled:
    done = await run(house, bill, adjust=adjust, **more)
    assert isinstance(done, Reconciled), done
    return done


async def lines(house: House, **period: datetime) -> dict[str, list[Line]]:
    """Every list, by its name."""
    since = period.get("since", house.clock() - timedelta(days=35))
    until = period.get("until", house.clock() + timedelta(seconds=1))
    found = await read_lines(house.db, since, until, limit=1000)
    told: dict[str, list[Line]] = {name: [] for name in LISTS}
    for line in found.lines:
        told[line.list].append(line)
    assert {name: len(each) for name, each in told.items()} == {n: each.requests for n, each in found.sums.items()}
    return told


async def listed(house: House, **period: datetime) -> dict[str, set[str | None]]:
    """What fal calls the requests of each list that has any."""
    told = await lines(house, **period)
    return {name: {line.fal_request_id for line in each} for name, each in told.items() if each}


async def kept(house: House) -> list[dict[str, Any]]:
    return await house.rows("SELECT * FROM fal_bills ORDER BY billed_at, fal_request_id, n")
