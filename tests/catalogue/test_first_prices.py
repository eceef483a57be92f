"""`falgate migrate` on the database of a release that served fewer models."""

from datetime import UTC, datetime

from app.catalogue.registry import load_catalogue
from app.cli.migrate import migrate
from app.db import Database
from app.settings import Settings

NOW = datetime(2026, 5, 4, tzinfo=UTC)


async def test_new_models_get_their_prices_and_the_others_keep_theirs(db: Database, settings: Settings) -> None:
    catalogue = load_catalogue()
    async with db.plain() as plain:
        await plain.execute("DELETE FROM prices WHERE endpoint NOT LIKE '%/master/%'")
        await plain.execute("UPDATE prices SET base_usd = 9")
    done = await migrate(db, settings=settings, catalogue=catalogue, now=NOW)
    new = [endpoint for endpoint in catalogue.endpoints if "/master/" not in endpoint.id]
    assert (done.before, done.priced) == (done.after, [endpoint.id for endpoint in new])
    async with db.plain() as plain:
        rows = await plain.fetch("SELECT endpoint, count(*), min(base_usd), min(starts_at) FROM prices GROUP BY 1")
    told = {row[0]: tuple(row)[1:] for row in rows}
    for endpoint in catalogue.endpoints:
        count, base_usd, starts_at = told.pop(endpoint.id)
        assert count == len(endpoint.prices)
        assert (starts_at == NOW) is (endpoint in new)
        assert (base_usd == 9) is (endpoint not in new)
    assert not told
    assert (await migrate(db, settings=settings, catalogue=catalogue, now=NOW)).priced == []
