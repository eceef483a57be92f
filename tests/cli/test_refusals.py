"""A command that cannot do its work says why in one sentence, and shows no secret."""

import socket
from pathlib import Path

import asyncpg
import pytest

from app.cli.database import _in_words, open_database
from app.cli.refusals import Refusal
from app.db import CommitUnknown
from app.settings import Settings
from tests.cli.commands import Done, falgate, real
from tests.conftest import ADMIN_KEY, FAL_KEY
from tests.embedded.owners import query

PASSWORD = "canary-password"
WRONG_URLS = (
    "http://canary b",
    "http://canary:abc",
    "http://canary*",
    "http://canary:99999",
    "http://[canary]",
    "canary",
)
NOBODY = f"postgresql://falgate:{PASSWORD}@127.0.0.1:1/falgate"


def sentence(done: Done, *, code: int) -> str:
    """The one line that a refusal is; nothing else, and no secret."""
    assert (done.code, done.out) == (code, ""), done
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("falgate: ")
    assert lines[0].endswith((".", "?"))
    for secret in (FAL_KEY, ADMIN_KEY, PASSWORD, "canary"):
        assert secret not in done.err
    return lines[0]


def test_serve_without_settings_names_all_that_is_missing(tmp_path: Path) -> None:
    said = sentence(falgate("serve", folder=tmp_path), code=2)
    assert "FAL_KEY is not set" in said
    assert "DATABASE_URL is not set" in said


def test_a_wrong_name_in_env_file_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"FAL_KEZ={FAL_KEY}\n")
    said = sentence(falgate("serve", "--embedded", folder=tmp_path), code=2)
    assert "FAL_KEZ" in said
    assert "the nearest name is FAL_KEY" in said


@pytest.mark.parametrize(
    "line", ["myid:canary-value", "canary", "myid:canary=", "canary=x", "FAL_KEY", "FAL_KEY canary", "'canary'=x"]
)
def test_a_line_without_a_name_is_told_by_its_number(line: str, tmp_path: Path) -> None:
    """It may be a key that was pasted alone."""
    (tmp_path / ".env").write_text(f"# our settings\nPORT=8000\n\n{line}\nHOST=127.0.0.1\n")
    assert ".env, line 4: " in sentence(falgate("serve", "--embedded", folder=tmp_path), code=2)


@pytest.mark.parametrize("name", ["ADMIN_KEY", "METRICS_KEY", "FAL_KEY"])
def test_a_file_without_a_secret_is_refused(name: str, tmp_path: Path) -> None:
    """An empty ADMIN_KEY would open the admin routes to everybody."""
    (tmp_path / "secret").write_text("\n")
    settings = {key: value for key, value in real(NOBODY).items() if key != name} | {f"{name}_FILE": "secret"}
    assert f"{name}_FILE" in sentence(falgate("serve", folder=tmp_path, **settings), code=2)


def test_an_env_file_in_another_encoding_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(f"FAL_KEY={FAL_KEY}\xe4".encode("latin-1"))
    assert "not UTF-8" in sentence(falgate("serve", "--embedded", folder=tmp_path), code=2)


@pytest.mark.parametrize("command", [["serve"], ["migrate"], ["audit"], ["keys", "create", "--user", "ann"]])
def test_a_database_that_is_away_is_one_sentence(command: list[str], tmp_path: Path) -> None:
    assert "cannot be reached" in sentence(falgate(*command, folder=tmp_path, **real(NOBODY)), code=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ADMIN_KEY": "canary"},
        {"FAL_KEY": "canary canary"},
        {"FAL_KEY": "canary" * 200},
        {"TIMEZONE": "Europe/canary"},
        {"PORT": "canary"},
        {"METRICS_KEY_FILE": "canary"},
        {"DATABASE_URL": f"mysql://falgate:{PASSWORD}@localhost/falgate"},
        {"DATABASE_URL": f"postgresql://falgate:{PASSWORD}@localhost:canary/falgate"},
        {"DATABASE_URL": f"postgresql://falgate:{PASSWORD}/@[localhost/falgate"},
        {"FAL_QUEUE_URL": "https://user:canary@queue.fal.run"},
        *({"FAL_QUEUE_URL": wrong} for wrong in WRONG_URLS),
        {"POLL_SECONDS": "200", "JOB_DEADLINE_SECONDS": "100"},
        {"OUTPUT_STORE": "s3://canary:canary@bucket"},
        {"AWS_SECRET_ACCESS_KEY": "canary", "OUTPUT_STORE": "s3://bucket"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_setting_is_told_without_its_value(wrong: dict[str, str], tmp_path: Path) -> None:
    said = sentence(falgate("serve", folder=tmp_path, **(real(NOBODY) | wrong)), code=2)
    assert any(name.removesuffix("_FILE") in said for name in wrong)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (asyncpg.InvalidPasswordError("canary"), "the user or the password"),
        (asyncpg.InvalidCatalogNameError("canary"), "no database"),
        (asyncpg.InsufficientPrivilegeError("canary"), "may not do this"),
        (asyncpg.LockNotAvailableError("canary"), "try again"),
        (asyncpg.UndefinedTableError("canary"), "42P01"),
    ],
)
def test_what_postgres_refuses_is_told_in_our_words(error: Exception, words: str) -> None:
    said = _in_words(error)
    assert words in said
    assert "canary" not in said


async def test_a_commit_that_nobody_can_tell_of_is_told(settings: Settings) -> None:
    with pytest.raises(Refusal, match="it may have happened"):
        async with open_database(settings):
            raise CommitUnknown


def test_a_database_that_does_not_exist_is_told(database_url: str, tmp_path: Path) -> None:
    elsewhere = database_url.replace("/test_", "/not_there_")
    assert "create it first" in sentence(falgate("migrate", folder=tmp_path, **real(elsewhere)), code=1)


def test_a_folder_for_videos_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "canary").touch()
    settings = real(NOBODY, OUTPUT_STORE=str(tmp_path / "canary" / "videos"))
    assert "OUTPUT_STORE cannot be used: the folder" in sentence(falgate("serve", folder=tmp_path, **settings), code=1)


def test_two_databases_at_once_are_refused(tmp_path: Path) -> None:
    said = sentence(falgate("serve", "--embedded", folder=tmp_path, **real(NOBODY)), code=2)
    assert "--embedded and DATABASE_URL" in said
    assert not (tmp_path / "data").exists()


def test_an_empty_database_asks_for_migrate(empty_url: str, tmp_path: Path) -> None:
    assert "`falgate migrate`" in sentence(falgate("serve", folder=tmp_path, **real(empty_url)), code=2)


def test_a_schema_that_is_behind_asks_for_migrate(database_url: str, tmp_path: Path) -> None:
    query(database_url, "UPDATE alembic_version SET version_num = '0000'")
    for command in ("serve", "audit"):
        said = sentence(falgate(command, folder=tmp_path, **real(database_url)), code=2)
        assert "is at 0000" in said
        assert "`falgate migrate`" in said


def test_a_migrate_that_was_cut_short_is_to_be_repeated(database_url: str, tmp_path: Path) -> None:
    query(database_url, "DELETE FROM installation")
    assert "again" in sentence(falgate("serve", folder=tmp_path, **real(database_url)), code=2)
    assert falgate("migrate", folder=tmp_path, **real(database_url)).code == 0


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_dollars_and_time_zones_never_mix(command: str, database_url: str, tmp_path: Path) -> None:
    """The template's database belongs to a real fal, in UTC."""
    play = real(database_url) | {"FAL_KEY": "sandbox"}
    assert "a real fal's" in sentence(falgate(command, folder=tmp_path, **play), code=2)
    elsewhere = real(database_url, TIMEZONE="Europe/Berlin")
    assert "TIMEZONE=UTC" in sentence(falgate(command, folder=tmp_path, **elsewhere), code=2)
    query(database_url, "UPDATE installation SET is_sandbox = true")
    assert "the sandbox's" in sentence(falgate(command, folder=tmp_path, **real(database_url)), code=2)


def test_a_port_that_is_taken_is_one_sentence(database_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for done in (
            falgate("serve", folder=tmp_path, **real(database_url, PORT=port)),
            falgate("serve", "--workers", "2", folder=tmp_path, **real(database_url, PORT=port)),
            falgate("sandbox", "--port", port, folder=tmp_path),
        ):
            assert "is taken" in sentence(done, code=1)


def test_an_address_of_another_machine_is_one_sentence(database_url: str, tmp_path: Path) -> None:
    done = falgate("serve", folder=tmp_path, **real(database_url, HOST="192.0.2.1"))
    assert "HOST must be" in sentence(done, code=1)


def test_a_folder_that_is_not_ours_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data" / "postgres").mkdir(parents=True)
    (tmp_path / "data" / "postgres" / "diary.txt").write_text("dear diary")
    sentence(falgate("migrate", "--embedded", folder=tmp_path, FAL_KEY=FAL_KEY), code=1)
