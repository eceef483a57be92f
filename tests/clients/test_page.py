"""A page of another origin makes a video with fal's own client and plays it, and never sees a key."""

import asyncio
import json
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import Gateway

from .serving import Message, Receive, Send, host_of, read_body, serve
from .stage import run_program
from .tools import JS, find_chromium

pytestmark = pytest.mark.asyncio(loop_scope="package")
HTML = b'<!doctype html><meta charset="utf-8"><video muted></video><script type="module" src="page.js"></script>'
QUIET = (  # else it looks up hosts of its maker's at every start
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)


class PageServer:
    """The page, its script, the token that the page's backend makes for it, and what the page saw."""

    def __init__(self, script: bytes, about: dict[str, str]) -> None:
        self._files = {
            "/": ("text/html", HTML),
            "/page.js": ("text/javascript", script),
            "/token": ("application/json", json.dumps(about).encode()),
        }
        self.seen: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST" and not self.seen.done():
            self.seen.set_result(json.loads(await read_body(receive)))
        kind, body = self._files.get(scope["path"], ("text/plain", b""))
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def bundle(folder: Path) -> bytes:
    """The page's script with fal's client in it."""
    done = await run_program(
        JS / "node_modules" / ".bin" / "esbuild",
        str(JS / "page_scenario.mjs"),
        "--bundle",
        "--format=esm",
        "--log-level=error",
        f"--outfile={folder / 'page.js'}",
        environment={"NODE_PATH": str(JS / "node_modules")},
    )
    assert done.code == 0, done.err
    return (folder / "page.js").read_bytes()


async def open_page(url: str, folder: Path, seen: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
    """Open it in a browser until it has told what it saw."""
    browser = await asyncio.create_subprocess_exec(
        find_chromium() or "chromium",
        *QUIET,
        f"--user-data-dir={folder}",
        url,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(60):
            return await seen
    finally:
        with suppress(ProcessLookupError):
            os.killpg(browser.pid, signal.SIGKILL)
        await browser.wait()


async def test_a_page_uploads_an_image_makes_a_video_and_plays_it(
    gateway: Gateway, page_listener: socket.socket, tmp_path: Path
) -> None:
    ann = await gateway.make_person()
    body = {"scope": "submit", "end_user": "visitor-1", "lifetime_seconds": 600}
    made = await gateway.client.post("/v1/tokens", json=body, headers=ann.headers)
    assert made.status_code == 201, made.text
    server = PageServer(await bundle(tmp_path), {"gateway": gateway.url, "token": made.json()["token"]})
    async with serve(server, listener=page_listener):
        seen = await open_page(f"http://{host_of(page_listener)}/", tmp_path / "browser", server.seen)
    assert "failed" not in seen, seen["failed"]
    assert seen["job"]["status"] == "succeeded"
    assert seen["job"]["end_user"] == "visitor-1"
    assert seen["statuses"][-1] == "COMPLETED"
    assert seen["readyState"] >= 2
    assert seen["duration"] == pytest.approx(5, abs=0.5)
    assert seen["currentTime"] == pytest.approx(seen["duration"] - 1, abs=0.5)
    assert (seen["invalid"]["name"], seen["invalid"]["status"]) == ("ValidationError", 422)
    for refused in (seen["stranger"], seen["anonymous"]):
        assert (refused["name"], refused["status"]) == ("ApiError", 401), refused
        assert refused["requestId"]
        assert refused["message"] == refused["body"]["message"]
