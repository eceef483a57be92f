"""The programs under docs/examples do what they say, and docs/clients.md shows them as they are."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.cli.picture import png
from tests.gateway import Gateway, Person

from .certificate import Certificate
from .serving import serve
from .stage import PYTHON, ROOT, Done, run_program
from .test_python_client import settings_of_the_client

pytestmark = pytest.mark.asyncio(loop_scope="package")
EXAMPLES = ROOT / "docs" / "examples"
PAGE = ROOT / "docs" / "clients.md"
BLOCK = re.compile(r"^```(\w+) ([\w.]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VIDEO = re.compile(r"^http://127\.0\.0\.1:\d+/files/[0-9a-f-]+/16x9-5s\.mp4$", re.MULTILINE)


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def ann(gateway: Gateway) -> Person:
    return await gateway.make_person()


@pytest_asyncio.fixture(loop_scope="package", scope="module")
async def tls(gateway: Gateway, certificate: Certificate) -> AsyncIterator[str]:
    """The gateway's HOST:PORT over TLS."""
    async with serve(gateway.app, certificate=certificate) as host:
        yield host


async def test_the_page_shows_every_example_as_it_is() -> None:
    shown = {name: text for _, name, text in BLOCK.findall(PAGE.read_text())}
    assert shown == {path.name: path.read_text() for path in EXAMPLES.iterdir() if path.is_file()}


async def run_python(name: str, *arguments: str, ann: Person, gateway: Gateway, **settings: str) -> Done:
    given = {"URL": gateway.url, "KEY": ann.secret, "FAL_KEY": ann.secret} | settings
    return await run_program(PYTHON, str(EXAMPLES / name), *arguments, environment=given)


async def test_subscribe_over_tls(gateway: Gateway, ann: Person, tls: str, certificate: Certificate) -> None:
    settings = settings_of_the_client(tls, ann.secret, certificate, "/fal")
    done = await run_python("subscribe.py", ann=ann, gateway=gateway, **settings)
    assert done.code == 0, done
    lines = done.out.splitlines()
    assert lines[0].startswith("job_")
    assert lines[-2] == "Completed"
    assert VIDEO.fullmatch(lines[-1])


async def test_errors_over_tls(gateway: Gateway, ann: Person, tls: str, certificate: Certificate) -> None:
    settings = settings_of_the_client(tls, ann.secret, certificate, "/fal")
    done = await run_python("errors.py", "[runner-lost]", ann=ann, gateway=gateway, **settings)
    assert (done.code, done.out) == (0, "503 runner_disconnected Runner disconnected\n"), done


async def test_plain_http_by_two_lines(gateway: Gateway, ann: Person) -> None:
    done = await run_python("plain_http.py", ann=ann, gateway=gateway)
    assert done.code == 0, done
    assert VIDEO.search(done.out)


async def test_an_image_from_disk(
    gateway: Gateway, ann: Person, tls: str, certificate: Certificate, tmp_path: Path
) -> None:
    image = tmp_path / "boat.png"
    image.write_bytes(png(400))
    settings = settings_of_the_client(tls, ann.secret, certificate, "/fal") | {"URL": f"https://{tls}"}
    done = await run_python("image.py", str(image), ann=ann, gateway=gateway, **settings)
    assert done.code == 0, done
    assert done.out.rstrip().endswith("5s.mp4")


async def test_v1_with_httpx(gateway: Gateway, ann: Person) -> None:
    done = await run_python("v1.py", ann=ann, gateway=gateway)
    assert done.code == 0, done
    status, charged_usd, content_url = done.out.split()
    assert (status, charged_usd) == ("succeeded", "1.40")
    assert (await gateway.client.get(content_url)).headers["content-type"] == "video/mp4"


async def test_curl(gateway: Gateway, ann: Person, tmp_path: Path) -> None:
    script = f"set -euo pipefail\n{(EXAMPLES / 'curl.sh').read_text()}"
    done = await run_program("bash", "-c", script, folder=tmp_path, environment={"URL": gateway.url, "KEY": ann.secret})
    assert done.code == 0, done
    assert "16x9-5s.mp4" in done.out
    assert (tmp_path / "boat.mp4").read_bytes()[4:8] == b"ftyp"
