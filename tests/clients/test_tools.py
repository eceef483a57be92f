"""Where Node or a browser is missing, a run says at its end what it left out; in CI it fails."""

from pathlib import Path

import pytest

from .stage import PYTHON, run_program
from .tools import NEEDS, left_out, require_tools

LEFT_OUT = (
    "LEFT OUT on this machine: tests/clients/test_page.py.",
    "  Node.js 18 or newer is missing: install it (Debian, Ubuntu: apt install nodejs npm).",
    "  Chromium is missing: install it (Debian: apt install chromium).",
)


async def test_they_are_left_out_and_named_at_the_end(tmp_path: Path) -> None:
    """As a run of xdist says it on a machine on which there is nothing."""
    plugins = ("-p", "no:cacheprovider", "-p", "asyncio", "-p", "xdist")
    command = ("-m", "pytest", *plugins, "-o", "addopts=", "-q", "-n", "1", "tests/clients/test_page.py")
    settings = {"PATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = await run_program(PYTHON, *command, environment=settings)
    assert done.code == 5, done
    lines = [line for line in done.out.splitlines() if "make clients" not in line]
    assert tuple(lines[-4:-1]) == LEFT_OUT


def test_in_ci_nothing_is_left_out_so_that_they_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    assert left_out() == {}
    for name in NEEDS:
        with pytest.raises(pytest.fail.Exception, match="18 or newer is missing: install it"):
            require_tools(name)
    require_tools("test_python_client.py")
