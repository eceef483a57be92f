"""`falgate keys create`."""

import hashlib
from pathlib import Path

import pytest

from app.accounts.callers import COMMAND_LINE
from app.accounts.shapes import TeamBody, UserBody
from app.accounts.teams import create_team
from app.accounts.users import create_user
from app.db import Database
from app.ids import show
from app.wiring import utc_now
from tests.cli.commands import falgate, installed, real
from tests.embedded.owners import query


@pytest.fixture
async def ann(db: Database) -> str:
    """The id of the one Ann; there are two Bens, in two teams."""
    async with db.begin() as tx:
        made = {}
        for team, name in (("Film", "Ann"), ("Film", "Ben"), ("Sound", "Ben")):
            if team not in made:
                made[team] = await create_team(tx, TeamBody(name=team), actor=COMMAND_LINE, now=utc_now())
            email = f"{name}@{team}.example".lower()
            body = UserBody(name=name, team_id=made[team].id, email=email)
            user = await create_user(tx, body, actor=COMMAND_LINE, now=utc_now())
            if name == "Ann":
                ann = user.id
    return show("user", ann)


def test_a_user_is_named_by_id_email_or_name(ann: str, database_url: str, tmp_path: Path) -> None:
    for user in (ann, "ann@film.example", "Ann"):
        done = falgate("keys", "create", "--user", user, folder=tmp_path, **real(database_url))
        assert done.code == 0, done
        secret = done.out.removesuffix("\n")
        assert secret.startswith("fg_")
        assert secret not in done.err
        assert ann in done.err
        digest = hashlib.sha256(secret.encode()).hexdigest()
        assert (digest,) in query(database_url, "SELECT encode(hash, 'hex') FROM key_secrets")
    assert query(database_url, "SELECT DISTINCT actor FROM audit_log WHERE action = 'key.created'") == [
        ("command line",)
    ]


def test_who_is_meant_must_be_clear(ann: str, database_url: str, tmp_path: Path) -> None:
    del ann
    twice = falgate("keys", "create", "--user", "Ben", folder=tmp_path, **real(database_url))
    assert twice.code == 1
    assert "2 users are called 'Ben'" in twice.err
    assert twice.err.count("user_") == 2
    nobody = falgate("keys", "create", "--user", "Cleo", folder=tmp_path, **real(database_url))
    assert nobody.code == 1
    assert "There is no user" in nobody.err
    one = installed("keys", "create", "--user", "Ben", "--team", "Sound", folder=tmp_path, **real(database_url))
    assert one.code == 0


def test_a_disabled_user_gets_none(ann: str, database_url: str, tmp_path: Path) -> None:
    query(database_url, "UPDATE users SET disabled_at = now() WHERE name = 'Ann'")
    done = falgate("keys", "create", "--user", ann, folder=tmp_path, **real(database_url))
    assert done.code == 1
    assert done.out == ""
    assert "disabled" in done.err
