"""Large reports on their way: nothing held between pages, broken off when unreadable, let go of when unheard."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio

from app.accounts.callers import COMMAND_LINE
from app.db import Database, Plain
from app.reports.desks import Desks
from app.reports.lines import focus, jobs, pages
from app.reports.lines.jobs import JobsAsked
from app.reports.lines.pages import Streams
from app.reports.period import Period
from tests.http.world import refusal
from tests.reports.counter import BERLIN, Counter, lines_of
from tests.reports.history import settled

pytestmark = pytest.mark.asyncio(loop_scope="package")

MAY = datetime(2026, 5, 4, 10, tzinfo=UTC)
NOW = datetime(2026, 5, 20, 10, tzinfo=UTC)
PATHS = ("jobs.csv", "jobs.csv?date=charged", "focus.csv")
Read = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture(loop_scope="package")
async def pressed(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counter]:
    """Twenty jobs, on pages of two."""
    monkeypatch.setattr(pages, "PAGE_LINES", 2)
    history = [settled(counter.by("mia"), MAY + timedelta(minutes=number), "1") for number in range(20)]
    await counter.fill(*history, now=NOW)
    yield counter


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, doing: Callable[[], Awaitable[None]]) -> list[int]:
    """Do this instead of reading page `at`; the pages that have been asked for."""
    real: Read = Streams.read
    asked: list[int] = []

    async def read(self: Streams, *given: Any) -> Any:
        asked.append(len(asked))
        if asked[-1] == at:
            await doing()
        return await real(self, *given)

    monkeypatch.setattr(Streams, "read", read)
    return asked


async def is_away() -> None:
    raise ConnectionResetError("gone")


@pytest.mark.parametrize("path", PATHS)
async def test_what_cannot_be_read_to_its_end_is_broken_off(
    pressed: Counter, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(monkeypatch, 3, is_away)
    with pytest.raises(httpx.RemoteProtocolError):
        await pressed.ask(path)
    ours = [record for record in caplog.records if record.name.startswith("falgate") and record.levelno > logging.INFO]
    assert [record.getMessage() for record in ours] == [
        "a report broke off on its way to a caller: ConnectionResetError"
    ]


@pytest.mark.parametrize("path", PATHS)
async def test_what_cannot_be_begun_is_a_problem(pressed: Counter, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, 0, is_away)
    refusal(await pressed.ask(path), 503, "unavailable")
    assert len(await pressed.lines(path)) == 20, "its desk was given back"


@pytest.mark.parametrize("path", PATHS)
async def test_nobody_reads_on_for_a_caller_that_has_hung_up(
    pressed: Counter, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, left = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    asked = interrupt(monkeypatch, 4, waits)
    headers = pressed.people["mia"].headers
    async with pressed.gateway.client.stream("GET", f"/v1/reports/{path}", headers=headers) as answer:
        assert answer.status_code == 200
        await reached.wait()
    async with asyncio.timeout(20):
        await left.wait()
    assert asked == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("change", [{"disabled": True}, {"role": "member"}])
async def test_whose_key_does_not_open_it_any_more_gets_no_further_page(
    pressed: Counter, path: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    finance = await pressed.gateway.make_person("finance")

    async def changes() -> None:
        await pressed.gateway.admin("PATCH", f"/v1/users/{finance.user_id}", **change)

    interrupt(monkeypatch, 3, changes)
    with pytest.raises(httpx.RemoteProtocolError):
        await pressed.gateway.client.get(f"/v1/reports/{path}", headers=finance.headers)


async def test_no_connection_is_held_between_pages(pressed: Counter) -> None:
    db = pressed.gateway.wiring.db
    period = Period(MAY, NOW)
    asked = JobsAsked(period)
    by_created = jobs.by_created(asked, actor=COMMAND_LINE, until=NOW, last=NOW, zone=BERLIN)
    by_charged = jobs.by_charged(asked, actor=COMMAND_LINE, until=NOW, zone=BERLIN)
    by_entry = await focus.by_entry(db, period, actor=COMMAND_LINE, until=NOW, zone=BERLIN, account="falgate")
    for found in (
        pages.pages_by_job(db, Streams(), by_created, header=jobs.HEADER),
        pages.pages_by_booking(db, Streams(), by_charged, header=jobs.HEADER),
        pages.pages_by_booking(db, Streams(), by_entry, header=focus.HEADER),
    ):
        told = b""
        async for page in found:
            told += page
            assert db._engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        assert len(lines_of(told.decode())) == 20


async def test_many_streams_read_one_after_the_other(pressed: Counter) -> None:
    db, at_once, most = pressed.gateway.wiring.db, 0, 0

    @asynccontextmanager
    async def watched() -> AsyncIterator[Plain]:
        nonlocal at_once, most
        async with db.plain() as plain:
            at_once += 1
            most = max(most, at_once)
            yield plain
            at_once -= 1

    streams, asked = Streams(), JobsAsked(Period(MAY, NOW))
    by_created = jobs.by_created(asked, actor=COMMAND_LINE, until=NOW, last=NOW, zone=BERLIN)
    watching = cast("Database", SimpleNamespace(plain=watched))

    async def read() -> int:
        found = pages.pages_by_job(watching, streams, by_created, header=b"")
        return sum([page.count(b"\r\n") async for page in found])

    assert await asyncio.gather(*(read() for _ in range(6))) == [20] * 6
    assert most == 1


async def test_more_streams_than_there_is_room_for_are_refused(
    pressed: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: Streams = pressed.gateway.app.state.streams
    monkeypatch.setattr(streams, "desks", Desks(0, patience_seconds=0.01))
    for path in PATHS:
        refusal(await pressed.ask(path), 503, "too-many-reports")
