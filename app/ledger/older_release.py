"""What the release before this one books beside us, while one replica after the other is exchanged.

It adds to `spend_daily` what it charges, knows nothing of `spend_monthly` nor of counts, and writes no `job_status`. So
its ends are found among the entries booked since `books.counted_until`, up to a moment that every replica's clock has
passed, and counted; a month's money is then what its days come to.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from app.db import Database, Plain
from app.ledger.locks import EXCLUSIVE_LOCK
from app.ledger.spend import Spent, raise_spend
from app.ledger.usage import CLOCKS_AGREE_WITHIN
from app.ledger.windows import local_date
from app.money import ZERO

_ITS_ENDS: Final = "e.booked_at < $1 AND e.kind IN ('settle', 'void') AND e.job_status IS NULL"
_IS_BEHIND: Final = f"""
SELECT EXISTS (SELECT FROM entries e WHERE e.booked_at >= b.counted_until AND {_ITS_ENDS}) FROM books b
"""  # noqa: S608  ours
_ENDED: Final = f"""
SELECT h.booked_at AS held_at, e.booked_at, e.team_id, e.user_id, e.key_id, e.model, j.status
FROM entries e JOIN entries h ON h.id = e.resolves_id JOIN jobs j ON j.id = e.job_id
WHERE e.booked_at >= $2 AND {_ITS_ENDS}
"""  # noqa: S608  ours
_MONEY: Final = """
INSERT INTO spend_monthly AS s (month, team_id, user_id, key_id, model, charged_usd, seconds)
SELECT date_trunc('month', day::timestamp)::date, team_id, user_id, key_id, model, sum(charged_usd), sum(seconds)
FROM spend_daily WHERE day >= date_trunc('month', $1::date::timestamp) GROUP BY 1, 2, 3, 4, 5
ON CONFLICT ON CONSTRAINT spend_monthly_pkey
DO UPDATE SET charged_usd = excluded.charged_usd, seconds = excluded.seconds
WHERE (s.charged_usd, s.seconds) <> (excluded.charged_usd, excluded.seconds)
"""
_COUNTED: Final = "UPDATE books SET counted_until = $1 WHERE counted_until < $1"


async def count_older_ends(db: Database, *, zone: ZoneInfo, now: datetime) -> None:
    """Count what it has ended until some minutes ago. Any replica may, at any time. Commits."""
    until = now - CLOCKS_AGREE_WITHIN
    async with db.begin_plain() as plain:
        is_behind = await plain.fetchval(_IS_BEHIND, until, timeout=None)
        if not is_behind:
            await plain.execute(_COUNTED, until)
    if is_behind:
        await _count(db, until, zone)


async def _count(db: Database, until: datetime, zone: ZoneInfo) -> None:
    """While nobody holds or settles: whoever comes second finds it counted."""
    async with db.begin_plain() as plain:
        await plain.execute("SET LOCAL statement_timeout = 0")
        await plain.execute(f"SELECT {EXCLUSIVE_LOCK}")
        since: datetime = await plain.fetchval("SELECT counted_until FROM books")
        rows: list[Any] = await plain.fetch(_ENDED, until, since, timeout=None)
        await _raise_counts(plain, rows, zone)
        await plain.execute(_MONEY, local_date(since, zone), timeout=None)
        await plain.execute(_COUNTED, until)


async def _raise_counts(plain: Plain, rows: list[Any], zone: ZoneInfo) -> None:
    counts: list[Spent] = []
    for row in rows:
        held = Spent(
            day=local_date(row["held_at"], zone),
            team_id=row["team_id"],
            user_id=row["user_id"],
            key_id=row["key_id"],
            model=row["model"],
            charged_usd=ZERO,
            seconds=ZERO,
        )
        ended: dict[str, Any] = {row["status"]: 1}
        counts.append(replace(held, jobs=1))
        counts.append(replace(held, day=local_date(row["booked_at"], zone), **ended))
    await raise_spend(plain, counts)
