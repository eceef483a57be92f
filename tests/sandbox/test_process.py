"""The sandbox as a process: where it is, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import textwrap

import httpx
import pytest

from .running import run_sandbox


def test_it_ends_on_sigterm_even_while_calls_hang() -> None:
    with run_sandbox() as (sandbox, process):
        sandbox.set_fault(fault="hang")
        with pytest.raises(httpx.ReadTimeout):
            sandbox.http.get("/fal-ai/kling-video/requests/any/status", timeout=0.1)
        with socket.create_connection(("127.0.0.1", int(sandbox.url.rpartition(":")[2]))) as hanging:
            hanging.sendall(b"GET /a/b/requests/c/status HTTP/1.1\r\nhost: x\r\n\r\n")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == -signal.SIGTERM


def test_it_ends_with_its_parent() -> None:
    parent_code = textwrap.dedent("""
        import os, subprocess, sys
        command = [sys.executable, "-m", "app.sandbox", "--exit-with", str(os.getpid())]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        print(child.pid, child.stdout.readline(), flush=True)
        sys.stdin.read()
    """)
    command = [sys.executable, "-c", parent_code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, process_group=0) as parent:
        assert parent.stdout
        pid, _, url = parent.stdout.readline().split()
        try:
            assert httpx.get(f"{url}/_sandbox/state", trust_env=False).status_code == 200
            parent.kill()
            # Its end closes the pipe that it inherited from nobody else: nothing is left to read.
            assert _is_gone(url)
        finally:
            if not _is_gone(url):
                os.kill(int(pid), signal.SIGKILL)


def _is_gone(url: str) -> bool:
    host, _, port = url.removeprefix("http://").partition(":")
    for _ in range(1000):
        try:
            with socket.create_connection((host, int(port)), timeout=0.01) as connection:
                connection.recv(1)
        except TimeoutError:
            continue
        except ConnectionError:
            return True
        else:
            continue
    return False


def test_it_says_nothing_when_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "app.sandbox", "--port", str(taken.getsockname()[1])]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode != 0
    assert ended.stdout == ""
    assert "Address already in use" in ended.stderr


def test_its_public_url_stands_before_every_path() -> None:
    with run_sandbox("--public-url", "https://fal.test/", "--speed", "1000") as (sandbox, _):
        answer = sandbox.submit("a cat").json()
        assert answer["response_url"].startswith("https://fal.test/fal-ai/kling-video/requests/")
        sandbox.move(answer["request_id"], "COMPLETED")
        assert sandbox.call(answer["request_id"]).json()["video"]["url"].startswith("https://fal.test/files/")
