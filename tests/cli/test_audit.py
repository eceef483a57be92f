"""`falgate audit`: nothing to say, or every difference."""

from pathlib import Path

from tests.cli.commands import falgate, installed, real
from tests.embedded.owners import query


def test_it_agrees_or_lists_every_difference(database_url: str, tmp_path: Path) -> None:
    assert installed("audit", folder=tmp_path, **real(database_url)) == (0, "the ledger agrees\n", "")
    query(
        database_url,
        """
        INSERT INTO spend_daily (day, team_id, user_id, key_id, model, charged_usd, seconds)
        SELECT day, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'kling-2.1-master', 1.40, 5
        FROM unnest(ARRAY['2026-01-01', '2026-01-02']::date[]) AS day
        """,
    )
    done = falgate("audit", folder=tmp_path, **real(database_url))
    assert done.code == 1
    assert done.err == ""
    assert [line.partition(" ")[0] for line in done.out.splitlines()] == ["spend_daily", "spend_daily"]
