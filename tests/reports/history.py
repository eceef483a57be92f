"""Histories of entries, put into a database as they are; and what a report of them must say, told in plain Python."""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from app.db import Database
from app.ids import first_id
from app.reports.period import Period

FIGURES: Final = ("charged_usd", "held_usd", "seconds", "jobs", "succeeded", "failed", "canceled")
CHARGED: Final = ("settle", "overage", "adjustment")

Sums = tuple[Decimal, ...]
Key = tuple[str | None, ...]


@dataclass(frozen=True)
class Maker:
    """Whom a job is made by, and with what; a number stands for an id that nobody has."""

    team: int | UUID = 1
    user: int | UUID = 1
    key: int | UUID = 1
    model: str = "kling-2.1-master"
    end_user: str | None = None
    tags: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Booked:
    """An entry of a job; `status`: how the job ended, of a settle or void."""

    kind: str
    at: datetime
    usd: Decimal
    seconds: Decimal
    status: str | None = None


@dataclass(frozen=True)
class Job:
    """A job's entries, its hold first. It has ended when a settle or void is among them."""

    maker: Maker
    entries: tuple[Booked, ...]
    knows_status: bool = True  # the release before wrote none on its entries

    @property
    def end(self) -> Booked | None:
        return next((entry for entry in self.entries if entry.status is not None), None)


def uuid_of(kind: str, number: int | UUID) -> UUID:
    return number if isinstance(number, UUID) else UUID(int=(sum(map(ord, kind)) << 64) + number)


def job_id_of(number: int, job: Job) -> UUID:
    """Of the job that stands there in a history; ids are in the order of their moments, as everywhere."""
    return UUID(int=first_id(job.entries[0].at).int + number)


def settled(maker: Maker, at: datetime, usd: str, *, seconds: str = "5", held_at: datetime | None = None) -> Job:
    """A job that succeeded and was charged as it was quoted."""
    hold = Booked("hold", held_at or at, Decimal(usd), Decimal(seconds))
    return Job(maker, (hold, Booked("settle", at, Decimal(usd), Decimal(seconds), "succeeded")))


async def write(db: Database, history: Sequence[Job]) -> None:
    """Put it there instead of what was there; nothing is summed."""
    async with db.begin_plain() as plain:
        await plain.execute("SET LOCAL session_replication_role = replica")  # no triggers, no foreign keys
        await plain.execute("DELETE FROM entries; DELETE FROM jobs; DELETE FROM spend_daily; DELETE FROM spend_monthly")
        jobs = [_job_row(job_id_of(number, job), job) for number, job in enumerate(history)]
        if jobs:
            await plain.copy_records_to_table("jobs", records=[tuple(row.values()) for row in jobs], columns=[*jobs[0]])
        numbers = itertools.count()
        entries = [
            _entry_row(number, job_id_of(at, job), job, entry)
            for at, job in enumerate(history)
            for entry, number in zip(job.entries, numbers, strict=False)
        ]
        if entries:
            records = [tuple(row.values()) for row in entries]
            await plain.copy_records_to_table("entries", records=records, columns=[*entries[0]])


async def read(db: Database) -> list[Job]:
    """The history that stands in a database, whoever wrote it."""
    async with db.plain() as plain:
        rows = await plain.fetch("SELECT * FROM entries ORDER BY job_id, kind <> 'hold'")
    return [
        Job(
            Maker(first["team_id"], first["user_id"], first["key_id"], first["model"], first["end_user"]),
            tuple(
                Booked(row["kind"], row["booked_at"], row["amount_usd"], row["seconds"], row["job_status"])
                for row in (first, *others)
            ),
        )
        for _, (first, *others) in itertools.groupby(rows, key=lambda row: row["job_id"])
    ]


def _of(maker: Maker) -> dict[str, Any]:
    return {
        "team_id": uuid_of("team", maker.team),
        "user_id": uuid_of("user", maker.user),
        "key_id": uuid_of("key", maker.key),
        "model": maker.model,
        "end_user": maker.end_user,
        "tags": json.dumps(maker.tags),
        "price_id": UUID(int=1),
    }


def _job_row(job_id: UUID, job: Job) -> dict[str, Any]:
    hold, end = job.entries[0], job.end
    charged = sum((entry.usd for entry in job.entries if entry.kind in CHARGED), Decimal(0))
    return {
        **_of(job.maker),
        "id": job_id,
        "status": end.status if end else "running",
        "endpoint": "x",
        "input": "{}",
        "seconds": hold.seconds,
        "quoted_usd": hold.usd,
        "held_usd": Decimal(0) if end else hold.usd,
        "charged_usd": charged if end else None,
        "quota_usage_ids": [],
        "created_at": hold.at,
        "queued_at": hold.at,
        "finished_at": end.at if end else None,
    }


def _entry_row(number: int, job_id: UUID, job: Job, entry: Booked) -> dict[str, Any]:
    return {
        **_of(job.maker),
        "id": job_id if entry.kind == "hold" else uuid_of("entry", number),
        "job_id": job_id,
        "kind": entry.kind,
        "source": str(number),
        "amount_usd": entry.usd,
        "seconds": entry.seconds,
        "resolves_id": job_id if entry.status else None,
        "job_status": entry.status if job.knows_status else None,
        "booked_at": entry.at,
    }


def expected(history: Iterable[Job], names: Sequence[str], *, period: Period, zone: ZoneInfo) -> dict[Key, Sums]:
    """The lines of a report by the groups `names`, told entry by entry."""
    lines: dict[Key, Sums] = defaultdict(lambda: (Decimal(0),) * len(FIGURES))
    for job in history:
        for entry in job.entries:
            if period.since <= entry.at and (period.until is None or entry.at < period.until):
                key = tuple(part for name in names for part in _key(name, job.maker, entry.at.astimezone(zone)))
                lines[key] = tuple(a + b for a, b in zip(lines[key], _sums(job, entry), strict=True))
    return dict(lines)


def _key(name: str, maker: Maker, local: datetime) -> Iterable[str | None]:
    match name:
        case "day":
            return (local.date().isoformat(),)
        case "week":
            return ((local.date() - timedelta(days=local.weekday())).isoformat(),)
        case "month":
            return (local.date().isoformat()[:7],)
        case "team" | "user" | "key":
            number = getattr(maker, name)
            return f"{name}_{uuid_of(name, number).hex}", None  # they have no names in these histories
        case "end_user" | "model":
            return (getattr(maker, name),)
        case _:
            return (maker.tags.get(name.removeprefix("tag.")),)


def _sums(job: Job, entry: Booked) -> Sums:
    is_charged = entry.kind in CHARGED
    is_held = entry.kind == "hold" and job.end is None
    counts = [entry.kind == "hold", *(entry.status == status for status in ("succeeded", "failed", "canceled"))]
    return (
        entry.usd if is_charged else Decimal(0),
        entry.usd if is_held else Decimal(0),
        entry.seconds if is_charged else Decimal(0),
        *(Decimal(count) for count in counts),
    )


def added_up(lines: Iterable[Sums]) -> Sums:
    """The sum of lines."""
    total: Sums = (Decimal(0),) * len(FIGURES)
    for line in lines:
        total = tuple(a + b for a, b in zip(total, line, strict=True))
    return total


def transitions(zone: ZoneInfo, year: int) -> list[datetime]:
    """The hours of a year (UTC) at which this zone's clocks change."""
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(366 * 24)]
    offsets = [hour.astimezone(zone).utcoffset() for hour in hours]
    return [after for after, was, now in zip(hours[1:], offsets, offsets[1:], strict=False) if was != now]
