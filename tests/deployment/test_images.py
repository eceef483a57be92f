"""Dockerfile and docker-compose.yml, read: nothing here can run them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.cli.commands import real, serving
from tests.conftest import FAL_KEY

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]


def lines(word: str) -> list[str]:
    """The arguments of each such line of the last stage."""
    stage = DOCKERFILE.rpartition("\nFROM ")[2]
    return re.findall(rf"^{word} +(.*)$", stage, re.MULTILINE)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The folder of the image, filled as COPY does from what .dockerignore lets through."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    folder = tmp_path / "falgate"
    folder.mkdir()
    copied = [line.split() for line in lines("COPY") if not line.startswith("--from")]
    for source, target in copied:
        assert source in allowed
        shutil.copytree(ROOT / source, folder / target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    assert sorted(path.name for path in folder.iterdir()) == ["app", "migrations"]
    return folder


def in_image(folder: Path, command: list[str], **settings: str) -> subprocess.CompletedProcess[str]:
    """A command as the image would run it: its entry point, its folder, no installed package of ours."""
    first, *rest = json.loads(lines("ENTRYPOINT")[0])
    assert first == "python"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), **settings}
    program = [sys.executable, *rest, *command]
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_image_is_locked_small_and_not_root() -> None:
    assert "--require-hashes -r requirements.txt" in DOCKERFILE
    assert "requirements-dev" not in DOCKERFILE
    assert "pgserver" not in (ROOT / "requirements.txt").read_text()
    assert all(base.endswith("-slim") for base in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    assert lines("USER") == ["10001"]
    assert "HOST=0.0.0.0" in lines("ENV")[0]
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_the_commands_of_compose_are_commands_of_the_image(image: Path) -> None:
    for command in ([*SERVICES["migrate"]["command"]], [*SERVICES["gateway"]["command"]], json.loads(lines("CMD")[-1])):
        done = in_image(image, [*command, "--help"])
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"Usage: falgate {command[0]}")


def test_the_image_migrates_and_serves(image: Path, empty_url: str) -> None:
    settings = {"DATABASE_URL": empty_url, "FAL_KEY": FAL_KEY, "FAL_QUEUE_URL": ""}
    done = in_image(image, SERVICES["migrate"]["command"], **settings)
    assert done.returncode == 0, done.stderr
    assert "from nothing" in done.stdout


def test_the_healthcheck_tells_a_gateway_from_nothing(database_url: str, tmp_path: Path) -> None:
    (line,) = lines("HEALTHCHECK")
    assert shlex.split(line.partition(" CMD ")[0])[0].startswith("--interval")
    first, *rest = json.loads(line.partition(" CMD ")[2])
    assert first == "python"

    def look(port: str) -> int:
        environment = {"PATH": os.environ["PATH"], "PORT": port, "http_proxy": "http://127.0.0.1:1"}
        return subprocess.run([sys.executable, *rest], env=environment, capture_output=True, check=False).returncode

    with serving(folder=tmp_path, **real(database_url)) as gateway:
        port = gateway.url.rpartition(":")[2]
        assert look(port) == 0
    assert look(port) != 0


def test_postgres_18_keeps_its_data_where_the_image_puts_it() -> None:
    postgres = SERVICES["postgres"]
    assert postgres["image"] == "postgres:18"
    assert postgres["volumes"] == ["postgres:/var/lib/postgresql"]
    assert "postgres" in COMPOSE["volumes"]
    assert postgres["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert "ports" not in postgres


def test_migrate_runs_once_and_before_the_gateway() -> None:
    migrate, gateway = SERVICES["migrate"], SERVICES["gateway"]
    assert migrate["restart"] == "no"
    assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert gateway["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert migrate["image"] == gateway["image"]


def test_the_gateway_is_published_on_this_machine_alone() -> None:
    gateway = SERVICES["gateway"]
    assert gateway["ports"] == ["127.0.0.1:${PORT:-8000}:8000"]
    assert gateway["environment"]["HOST"] == "0.0.0.0"  # noqa: S104  inside the container
    assert gateway["environment"]["PORT"] == 8000


def test_without_key_or_password_compose_says_one_sentence() -> None:
    for service in ("migrate", "gateway"):
        given = SERVICES[service]["environment"]
        assert re.fullmatch(r"\$\{FAL_KEY:\?[^}]+\}", given["FAL_KEY"])
        assert re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?[^}]+\}", given["PGPASSWORD"])
    assert re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?[^}]+\}", SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"])


def test_every_setting_reaches_the_gateway_and_an_unset_one_is_empty() -> None:
    given = dict(SERVICES["gateway"]["environment"])
    for ours in ("DATABASE_URL", "PGPASSWORD", "FAL_KEY", "HOST", "PORT"):
        given.pop(ours)
    assert given == {
        name.upper(): f"${{{name.upper()}:-}}"
        for name in Settings.model_fields
        if name not in {"database_url", "fal_key", "host", "port"}
    }
