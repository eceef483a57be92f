"""`falgate migrate --read-only-role`: a role that reads the views made for BI tools, and nothing else at all."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from app.cli.read_only import VIEWS
from app.db import Plain
from tests.cli.commands import Done, falgate, real
from tests.conftest import settings_for
from tests.ledger.house import House

_numbers = itertools.count()
PROMPT = "a secret film that nobody may read"
REFUSALS = (  # the last two of what is a view at all
    asyncpg.InsufficientPrivilegeError,
    asyncpg.WrongObjectTypeError,
    asyncpg.ObjectNotInPrerequisiteStateError,
)
DOCUMENTED = Path(__file__).parents[2] / "docs" / "bi.md"


@pytest.fixture
def name() -> str:
    """Roles belong to the whole server: each test takes one of its own."""
    return f"bi_{next(_numbers)}"


def migrate(database_url: str, folder: Path, name: str) -> Done:
    return falgate("migrate", "--read-only-role", name, folder=folder, **real(database_url))


@pytest.fixture
async def plain(database_url: str) -> AsyncIterator[Plain]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def relations(plain: Plain) -> dict[str, str]:
    """Name and kind of everything with rows in it."""
    rows = await plain.fetch(
        "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind IN ('r', 'v', 'm', 'p', 'S')"
    )
    return {row["relname"]: row["relkind"] for row in rows}


async def test_it_reads_the_views_and_nothing_else(database_url: str, plain: Plain, tmp_path: Path, name: str) -> None:
    house = House(settings_for(database_url))
    who = await house.someone()
    await house.quota("14.00")
    job_id = await house.submit(who, prompt=PROMPT, end_user="42")
    await house.end(job_id)
    await house.close()
    done = migrate(database_url, tmp_path, name)
    assert done == (0, f"The database is at 0004 already.\nThe role {name} was made and may read the views.\n", "")
    found = await relations(plain)
    assert sorted(one for one, kind in found.items() if kind == "v") == sorted(VIEWS)
    await plain.execute(f"SET ROLE {name}")
    read = ""
    for relation, kind in found.items():
        for statement in (f"SELECT * FROM {relation}", f"SELECT count(*) FROM {relation}"):  # noqa: S608
            if kind == "v":
                read += str(await plain.fetch(statement))
            else:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await plain.fetch(statement)
        for statement in (f"DELETE FROM {relation}", f"TRUNCATE {relation}", f"INSERT INTO {relation} DEFAULT VALUES"):  # noqa: S608
            with pytest.raises(REFUSALS):
                await plain.execute(statement)
    for statement in ("CREATE TABLE mine (x int)", f"ALTER VIEW {VIEWS[0]} RENAME TO x", "DROP TABLE jobs"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await plain.execute(statement)
    assert f"job_{job_id.hex}" in read
    assert PROMPT not in read
    assert "https://v" not in read, "nor where the video is"


async def test_it_cannot_log_in_and_again_it_is_the_same(
    database_url: str, plain: Plain, tmp_path: Path, name: str
) -> None:
    assert migrate(database_url, tmp_path, name).code == 0
    await plain.execute(f"GRANT SELECT ON jobs TO {name}")
    again = migrate(database_url, tmp_path, name)
    assert again == (0, f"The database is at 0004 already.\nThe role {name} may read the views.\n", "")
    assert not await plain.fetchval("SELECT rolcanlogin OR rolsuper FROM pg_roles WHERE rolname = $1", name)
    assert not await plain.fetchval("SELECT has_table_privilege($1, 'jobs', 'SELECT')", name)


@pytest.mark.parametrize(
    "bad", ["", "Bi", "1bi", "pg_bi", "public", "bi;drop table jobs", 'b"i', "b" * 64, "bi-x", "ü"]
)
def test_bad_names_are_refused_before_anything_is_done(tmp_path: Path, bad: str) -> None:
    done = migrate("postgresql://nobody@127.0.0.1:9/none", tmp_path, bad)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("falgate: ")
    assert "cannot be the read-only role: take 1 to 63 of a-z, 0-9 and _, beginning with a letter" in done.err
    assert done.err.count("\n") == 1


async def test_a_role_that_may_do_more_is_refused(database_url: str, plain: Plain, tmp_path: Path, name: str) -> None:
    owner = urlsplit(database_url).username or "postgres"
    done = migrate(database_url, tmp_path, owner)
    assert done.code == 1
    assert done.err == (
        f"falgate: The role {owner} owns the database, makes roles, or is a superuser, or may become one who does:"
        " take another name.\n"
    )
    await plain.execute(f"CREATE ROLE {name}_readers; GRANT SELECT (input) ON jobs TO {name}_readers")
    await plain.execute(f"CREATE ROLE {name} IN ROLE {name}_readers")
    done = migrate(database_url, tmp_path, name)
    assert done.code == 1
    assert done.err.startswith(f"falgate: The role {name} may do more than read the views, with jobs for one:")
    assert not await plain.fetchval("SELECT has_table_privilege($1, 'spend_by_day', 'SELECT')", name), "all or nothing"


@pytest.mark.parametrize("attribute", ["REPLICATION", "CREATEROLE", "NOINHERIT IN ROLE {}_readers"])
async def test_a_role_that_may_become_one_that_does_more_is_refused(
    database_url: str, plain: Plain, tmp_path: Path, name: str, attribute: str
) -> None:
    await plain.execute(f"CREATE ROLE {name}_readers; GRANT SELECT ON deliveries TO {name}_readers")
    await plain.execute(f"CREATE ROLE {name} {attribute.format(name)}")
    done = migrate(database_url, tmp_path, name)
    assert (done.code, done.err.count("take another name")) == (1, 1), done
    assert not await plain.fetchval("SELECT has_table_privilege($1, 'spend_by_day', 'SELECT')", name), "all or nothing"


async def test_who_may_not_make_roles_is_told_what_to_do(
    database_url: str, plain: Plain, tmp_path: Path, name: str
) -> None:
    await plain.execute(f"CREATE ROLE {name}_owner LOGIN")
    await plain.execute("SELECT 1")
    for relation, kind in (await relations(plain)).items():
        await plain.execute(f"ALTER {'VIEW' if kind == 'v' else 'TABLE'} {relation} OWNER TO {name}_owner")
    await plain.execute(f"GRANT CREATE ON SCHEMA public TO {name}_owner WITH GRANT OPTION")
    await plain.execute(f"GRANT USAGE ON SCHEMA public TO {name}_owner WITH GRANT OPTION")
    parts = urlsplit(database_url)
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit(parts._replace(netloc=f"{name}_owner@{host}"))
    done = migrate(url, tmp_path, name)
    assert done.code == 1
    assert done.err == (
        f'falgate: The user of DATABASE_URL may not make roles: let a superuser run CREATE ROLE "{name}" NOLOGIN; and '
        "then run this again.\n"
    )
    await plain.execute(f'CREATE ROLE "{name}" NOLOGIN')
    assert migrate(url, tmp_path, name).code == 0
    assert await plain.fetchval("SELECT has_table_privilege($1, 'job_costs', 'SELECT')", name)


async def test_every_view_and_column_is_documented(plain: Plain) -> None:
    rows = await plain.fetch(
        "SELECT c.relname, a.attname, obj_description(c.oid) AS told FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
        "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v' ORDER BY a.attnum"
    )
    assert all(row["told"] for row in rows)
    in_database = {view: [row["attname"] for row in rows if row["relname"] == view] for view in VIEWS}
    sections = DOCUMENTED.read_text().split("\n## ")[1:]
    documented = {
        section.splitlines()[0].strip("`"): [
            cell.strip().strip("`")
            for line in section.splitlines()
            if line.startswith("| `")
            for cell in line.split("|")[1].split(",")
        ]
        for section in sections
        if section.startswith("`")
    }
    assert documented == in_database
