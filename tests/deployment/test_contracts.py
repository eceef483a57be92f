"""The import contracts name every room there is: a new one that a list forgets would be held to nothing."""

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
ROOMS = {
    f"app.{path.stem}"
    for path in (ROOT / "app").iterdir()
    if (path.is_dir() and (path / "__init__.py").exists()) or (path.suffix == ".py" and path.stem != "__init__")
}


def contract(name: str) -> dict[str, Any]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (found,) = [contract for contract in contracts if contract["name"] == name]
    return dict(found)


def test_the_sandbox_may_import_none_of_the_rooms() -> None:
    found = contract("The sandbox imports nothing of ours")
    assert set(found["forbidden_modules"]) == ROOMS - {"app.sandbox"}


def test_every_room_but_the_command_line_leaves_the_sandbox_alone() -> None:
    found = contract("Only the command line starts the sandbox")
    assert set(found["source_modules"]) == ROOMS - {"app.sandbox", "app.cli"}


def test_every_room_but_one_leaves_buckets_alone() -> None:
    found = contract("Only the output store speaks to buckets")
    assert set(found["source_modules"]) == ROOMS - {"app.output_store"}


def test_every_room_but_five_speaks_no_http() -> None:
    found = contract("Only fal, deliveries, outward, wiring and the sandbox speak HTTP to others")
    assert set(found["source_modules"]) == ROOMS - {
        "app.fal",
        "app.deliveries",
        "app.outward",
        "app.wiring",
        "app.sandbox",
    }
