"""Where Node or a browser is missing, a run says at its end what it left out; in CI it fails."""

from pathlib import Path

from .stage import PYTHON, Done, run_program

LEFT_OUT = (
    "LEFT OUT on this machine: tests/clients/test_page.py.",
    "  Node.js 18 or newer is missing: install it (Debian, Ubuntu: apt install nodejs npm).",
    "  Chromium is missing: install it (Debian: apt install chromium).",
)


async def run_tests(path: Path, *options: str, **environment: str) -> Done:
    """As on a machine on which there is nothing."""
    plugins = ("-p", "no:cacheprovider", "-p", "asyncio", "-p", "xdist")
    command = ("-m", "pytest", *plugins, "-o", "addopts=", "-q", *options, "tests/clients/test_page.py")
    settings = {"PATH": str(path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return await run_program(PYTHON, *command, environment=settings | environment)


async def test_they_are_left_out_and_named_at_the_end(tmp_path: Path) -> None:
    done = await run_tests(tmp_path, "-n", "1")
    assert done.code == 5, done
    lines = [line for line in done.out.splitlines() if "make clients" not in line]
    assert tuple(lines[-4:-1]) == LEFT_OUT


async def test_in_ci_they_fail(tmp_path: Path) -> None:
    done = await run_tests(tmp_path, CI="true")
    assert done.code == 1, done
    assert "LEFT OUT" not in done.out
    assert f"{LEFT_OUT[1].strip()[:-1]}; " in done.out
    assert "1 error" in done.out.splitlines()[-1]
