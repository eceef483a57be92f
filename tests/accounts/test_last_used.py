"""When a key was last used: written beside the requests, at most once a minute."""

import asyncio
from datetime import datetime

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from app.accounts.last_used import LastUsed
from app.accounts.tables import keys

from .office import START, Office


async def last_used_at(office: Office) -> datetime | None:
    async with office.db.reading() as tx:
        of_key = select(keys.c.last_used_at).where(keys.c.id == office.member.key.id)
        found: datetime | None = await tx.scalar(of_key)
        return found


async def use(office: Office) -> None:
    assert await office.may_call(office.member.key.secret)
    await office.last_used.flush(office.db, now=office.clock())


async def test_a_request_writes_nothing_itself(office: Office) -> None:
    assert await office.may_call(office.member.key.secret)
    assert await last_used_at(office) is None
    await office.last_used.flush(office.db, now=office.clock())
    assert await last_used_at(office) == START


async def test_a_key_is_written_at_most_once_a_minute(office: Office) -> None:
    await use(office)
    for _ in range(3):
        office.clock.advance(20)
        await use(office)
    assert await last_used_at(office) == START
    office.clock.advance(0.001)
    await use(office)
    assert await last_used_at(office) == office.clock()


async def test_another_replica_that_wrote_it_just_now_is_enough(office: Office) -> None:
    replica = LastUsed()
    for one in (office.last_used, replica):
        one.saw(office.member.key.id)
    await office.last_used.flush(office.db, now=START)
    office.clock.advance(10)
    await replica.flush(office.db, now=office.clock())
    assert await last_used_at(office) == START


async def test_many_replicas_flush_the_same_keys_and_none_waits_for_another(office: Office) -> None:
    everybody = [office.member, office.lead, office.finance, office.admin]
    replicas = [LastUsed() for _ in range(8)]
    for replica in replicas:
        for somebody in everybody:
            replica.saw(somebody.key.id)
    await asyncio.gather(*(replica.flush(office.db, now=START) for replica in replicas))
    assert await last_used_at(office) == START


async def test_a_flush_passes_over_a_key_that_somebody_is_changing(office: Office) -> None:
    office.last_used.saw(office.member.key.id)
    async with office.db.begin() as tx:
        await tx.execute(select(keys).with_for_update())
        await asyncio.wait_for(office.last_used.flush(office.db, now=START), timeout=2)
    assert await last_used_at(office) is None


async def test_what_could_not_be_written_is_remembered(office: Office) -> None:
    office.last_used.saw(office.member.key.id)
    async with office.db.begin() as tx:
        await tx.execute(text("ALTER TABLE keys RENAME TO hidden"))
    with pytest.raises(ProgrammingError):
        await office.last_used.flush(office.db, now=START)
    async with office.db.begin() as tx:
        await tx.execute(text("ALTER TABLE hidden RENAME TO keys"))
    await office.last_used.flush(office.db, now=START)
    assert await last_used_at(office) == START
