"""`falgate migrate`: once, whoever starts it and however often."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.catalogue.registry import load_catalogue
from tests.cli.commands import falgate, installed, real
from tests.embedded.owners import query


def test_two_at_once_migrate_once(empty_url: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(installed, "migrate", folder=tmp_path, **real(empty_url)) for _ in range(2)]
        done = [one.result() for one in both]
    assert [one.code for one in done] == [0, 0], done
    said = sorted(one.out for one in done)
    assert said[0].startswith("The database is at 0004 already.")
    assert said[1].startswith("The database went from nothing to 0004.")
    assert sum("First prices" in one for one in said) == 1
    seeds = [(endpoint.id, len(endpoint.prices)) for endpoint in load_catalogue().endpoints]
    assert query(empty_url, "SELECT endpoint, count(*) FROM prices GROUP BY 1 ORDER BY 1") == sorted(seeds)
    assert query(empty_url, "SELECT is_sandbox, timezone FROM installation") == [(False, "UTC")]


def test_a_second_one_has_nothing_to_do(database_url: str, tmp_path: Path) -> None:
    done = falgate("migrate", folder=tmp_path, **real(database_url))
    assert done == (0, "The database is at 0004 already.\n", "")


def test_a_newer_schema_is_left_as_it_is(database_url: str, tmp_path: Path) -> None:
    query(database_url, "UPDATE alembic_version SET version_num = '9999'")
    done = falgate("migrate", folder=tmp_path, **real(database_url))
    assert done.code == 0
    assert "nothing to do" in done.out


def test_it_runs_from_any_folder(empty_url: str, tmp_path: Path) -> None:
    """A folder `app` of somebody else's is not ours."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "migrations").mkdir()
    assert falgate("migrate", folder=tmp_path, **real(empty_url)).code == 0
