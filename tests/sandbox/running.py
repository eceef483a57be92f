"""A sandbox in a process of its own, and the calls that tests make to it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

TEXT = "fal-ai/kling-video/v2.1/master/text-to-video"
IMAGE = "fal-ai/kling-video/v2.1/master/image-to-video"
KEY = {"authorization": "Key test-id:test-secret"}
LIMITS = httpx.Limits(keepalive_expiry=1)  # uvicorn closes an idle connection after 5 s
SPEED = 100.0  # a job takes 40 ms


class Sandbox:
    """A running sandbox as a test sees it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, headers=KEY, timeout=10, trust_env=False, limits=LIMITS)

    def submit(self, prompt: str, endpoint: str = TEXT, **extra: Any) -> httpx.Response:
        headers = extra.pop("headers", {})
        return self.http.post(f"/{endpoint}", json={"prompt": prompt, **extra}, headers=headers)

    def start(self, prompt: str, **extra: Any) -> str:
        answer = self.submit(prompt, **extra)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["request_id"])

    def call(self, request_id: str, tail: str = "", method: str = "GET") -> httpx.Response:
        return self.http.request(method, f"/fal-ai/kling-video/requests/{request_id}{tail}")

    def move(self, request_id: str, status: str) -> None:
        answer = self.http.patch(f"/_sandbox/requests/{request_id}", json={"status": status})
        assert answer.status_code == 200, answer.text

    def wait(self, request_id: str) -> dict[str, Any]:
        return self.wait_url(f"{self.url}/fal-ai/kling-video/requests/{request_id}/status")

    def wait_url(self, status_url: str) -> dict[str, Any]:
        for _ in range(5000):
            answer = self.http.get(status_url)
            if answer.status_code == 200:
                return dict(answer.json())
            time.sleep(0.002)
        raise AssertionError(f"does not end: {answer.text}")

    def requests(self, **query: str) -> list[dict[str, Any]]:
        return list(self.http.get("/_sandbox/requests", params=query).json()["requests"])

    def set_clock(self, **clock: float) -> None:
        answer = self.http.post("/_sandbox/speed", json=clock)
        assert answer.status_code == 200, answer.text

    def set_fault(self, **fault: Any) -> None:
        answer = self.http.post("/_sandbox/faults", json=fault)
        assert answer.status_code == 200, answer.text


@contextmanager
def run_sandbox(*options: str) -> Iterator[tuple[Sandbox, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "app.sandbox", "--exit-with", str(os.getpid()), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            sandbox = Sandbox(process.stdout.readline().removeprefix("sandbox: ").strip())
            with sandbox.http:
                yield sandbox, process
        finally:
            process.kill()
