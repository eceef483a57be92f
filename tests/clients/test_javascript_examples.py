"""The JavaScript programs under docs/examples run under Node; the one for a page is played by test_page.py."""

import shutil
from pathlib import Path

import pytest
import pytest_asyncio

from tests.gateway import Gateway, Person

from .stage import ROOT, Done, run_program
from .tools import JS

pytestmark = pytest.mark.asyncio(loop_scope="package")
EXAMPLES = ROOT / "docs" / "examples"


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def ann(gateway: Gateway) -> Person:
    return await gateway.make_person()


async def run_example(name: str, gateway: Gateway, ann: Person, folder: Path) -> Done:
    """In a folder of its own, where `npm install @fal-ai/client` has been."""
    shutil.copy(EXAMPLES / name, folder)
    folder.joinpath("node_modules").symlink_to(JS / "node_modules")
    return await run_program("node", name, folder=folder, environment={"URL": gateway.url, "KEY": ann.secret})


async def test_the_proxy_under_node(gateway: Gateway, ann: Person, tmp_path: Path) -> None:
    done = await run_example("node.mjs", gateway, ann, tmp_path)
    assert done.code == 0, done
    statuses, (job_id, url) = done.out.splitlines()[:-1], done.out.splitlines()[-1].split()
    assert statuses[-1] == "COMPLETED"
    assert url.endswith("16x9-5s.mp4")
    assert (await gateway.job(ann, job_id))["charged_usd"] == "1.40"


async def test_the_middleware_under_node(gateway: Gateway, ann: Person, tmp_path: Path) -> None:
    done = await run_example("middleware.mjs", gateway, ann, tmp_path)
    assert done.code == 0, done
    assert done.out.rstrip().endswith("16x9-5s.mp4")
