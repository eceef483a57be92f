"""What the tests of this folder need that Python does not bring: Node, the client's package, and a browser."""

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parent
JS: Final = FOLDER / "js"
HOW: Final = {
    "Node.js 18 or newer": "install it (Debian, Ubuntu: apt install nodejs npm)",
    "@fal-ai/client": "make clients",
    "Chromium": "install it (Debian: apt install chromium)",
}
NEEDS: Final = {
    "test_javascript_client.py": ("Node.js 18 or newer", "@fal-ai/client"),
    "test_page.py": ("Node.js 18 or newer", "@fal-ai/client", "Chromium"),
    "test_javascript_examples.py": ("Node.js 18 or newer", "@fal-ai/client"),
}
"""Which file of tests needs what."""


def find_chromium() -> str | None:
    """The browser's command, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def missing_tools() -> list[str]:
    """What of all this is not on this machine."""
    there = {
        "Node.js 18 or newer": shutil.which("node") is not None,
        "@fal-ai/client": _is_installed(),
        "Chromium": find_chromium() is not None,
    }
    return [name for name, is_there in there.items() if not is_there]


def _is_installed() -> bool:
    """Whether `npm ci` has run since the lock last changed."""
    mark = JS / "node_modules" / ".package-lock.json"
    return mark.exists() and mark.stat().st_mtime >= (JS / "package-lock.json").stat().st_mtime


def must_run() -> bool:
    """In CI nothing is left out: what is missing there fails."""
    return bool(os.environ.get("CI"))


def left_out() -> dict[str, list[str]]:
    """File of tests → what it would need, of those that do not run on this machine."""
    missing = [] if must_run() else missing_tools()
    wanting = {name: [tool for tool in tools if tool in missing] for name, tools in NEEDS.items()}
    return {name: tools for name, tools in wanting.items() if tools}


def deselect(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out of a run what cannot run here."""
    names = left_out()
    gone = [item for item in items if item.path.parent == FOLDER and item.path.name in names]
    if gone:
        items[:] = [item for item in items if item not in gone]
        config.hook.pytest_deselected(items=gone)


def lines_about_what_is_left_out(config: pytest.Config) -> list[str]:
    """What the end of a run says, if it was asked for these tests."""
    asked = [Path(str(argument).partition("::")[0]).resolve() for argument in config.args]
    names = [name for name in left_out() if any(path in (FOLDER / name, *(FOLDER / name).parents) for path in asked)]
    if not names:
        return []
    tools = [tool for tool in HOW if any(tool in left_out()[name] for name in names)]
    return [
        f"LEFT OUT on this machine: {', '.join(f'tests/clients/{name}' for name in names)}.",
        *(f"  {tool} is missing: {HOW[tool]}." for tool in tools),
    ]


def require_tools(name: str) -> None:
    """Fail a test of this file where it runs without what it needs: in CI."""
    missing = [tool for tool in missing_tools() if tool in NEEDS.get(name, ())]
    if missing:
        pytest.fail("; ".join(f"{tool} is missing: {HOW[tool]}" for tool in missing), pytrace=False)
