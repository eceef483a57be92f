"""fal's bill of a period, read whole from its API before anything of it is kept."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, cast

from app.fal import LONGEST_PERIOD, BillingEvent, BillPage, Platform, Trouble
from app.reports.csv import written

PAUSES: Final = (1.0, 3.0, 10.0)
"""Seconds between the tries of one page: 500s are normal there (FAL.md 6)."""

COLUMNS: Final = ("fal_request_id", "billed_at", "endpoint", "units", "unit_price_usd", "usd", "paid_with")

_IN_MEMORY: Final = 4_000_000  # bytes; the rest is a file
_MOST_PAGES: Final = 10_000
_LONGEST_PAUSE: Final = 60.0
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500


class Bill:
    """Events as CSV, COLUMNS wide, as PostgreSQL's COPY takes them; it takes no more memory for more of them."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.events = 0

    def add(self, events: Sequence[BillingEvent]) -> None:
        """Some more of them."""
        self.file.write(
            written(
                (
                    event.fal_request_id,
                    event.billed_at.isoformat(),
                    event.endpoint,
                    event.units,
                    event.unit_price_usd,
                    event.usd,
                    event.paid_with,
                )
                for event in events
            )
        )
        self.events += len(events)


@contextmanager
def new_bill() -> Iterator[Bill]:
    """An empty one, gone with the block."""
    with SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        yield Bill(cast("BinaryIO", file))


async def read_bill(
    platform: Platform, bill: Bill, since: datetime, until: datetime, *, pauses: Sequence[float] = PAUSES
) -> Trouble | None:
    """Add all that fal billed in [since, until) to `bill`, or say why that cannot be told: then it is of no use."""
    start = since
    while start < until:
        end = min(start + LONGEST_PERIOD, until)
        trouble = await _read_stretch(platform, bill, start, end, pauses)
        if trouble is not None:
            return trouble
        start = end
    return None


async def _read_stretch(
    platform: Platform, bill: Bill, since: datetime, until: datetime, pauses: Sequence[float]
) -> Trouble | None:
    """An event that two neighbouring pages show alike is one: a late one moved the others while they were read."""
    cursors: set[str] = set()
    cursor: str | None = None
    before: set[BillingEvent] = set()
    for _ in range(_MOST_PAGES):
        page = await _read_page(platform, since, until, cursor, pauses)
        if isinstance(page, Trouble):
            return page
        events = [event for event in page.events if since <= event.billed_at < until and event not in before]
        await asyncio.to_thread(bill.add, events)
        before, cursor = set(page.events), page.next_cursor
        if cursor is None:
            return None
        if cursor in cursors:
            return Trouble("fal's bill goes round in circles")
        cursors.add(cursor)
    return Trouble(f"fal's bill has more than {_MOST_PAGES} pages")


async def _read_page(
    platform: Platform, since: datetime, until: datetime, cursor: str | None, pauses: Sequence[float]
) -> BillPage | Trouble:
    for pause in pauses:
        page = await platform.bill_page(since, until, cursor)
        if isinstance(page, BillPage) or not _may_pass(page):
            return page
        await asyncio.sleep(max(pause, min(page.retry_after_seconds or 0, _LONGEST_PAUSE)))
    return await platform.bill_page(since, until, cursor)


def _may_pass(trouble: Trouble) -> bool:
    return trouble.code is None or trouble.code == _TOO_MANY or trouble.code >= _SERVER_ERROR
