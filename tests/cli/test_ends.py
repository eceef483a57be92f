"""SIGTERM: no new work, answers in flight finish, nothing is sent twice, exit code 0 within ten seconds."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from app.embedded import EmbeddedPostgres
from tests.cli.commands import Serving, real, serving
from tests.cli.test_serve import make_key
from tests.embedded.owners import descendants, query, wait_for
from tests.sandbox.running import Sandbox, run_sandbox

TEXT = "/v1/text-to-video"
WITHIN_SECONDS = 10
one = pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
two = pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.slow), "2"])


@pytest.fixture(scope="module")
def fal() -> Iterator[Sandbox]:
    with run_sandbox("--speed", "20") as (sandbox, _):
        yield sandbox


def require_quick_end(gateway: Serving, began: float) -> None:
    assert gateway.popen.wait(2 * WITHIN_SECONDS) == 0
    assert time.monotonic() - began < WITHIN_SECONDS
    assert "Traceback" not in gateway.log


@one
def test_a_submit_that_fal_does_not_answer_holds_nobody_up_and_is_not_sent_again(
    workers: str, database_url: str, fal: Sandbox, tmp_path: Path
) -> None:
    prompt = f"never answered {workers}"
    fal.set_fault(call="submit", fault="hang", accepted=True, prompt=prompt, times=1, seconds=60)
    settings = real(database_url, FAL_QUEUE_URL=fal.url, POLL_SECONDS="0.2")
    with serving("--workers", workers, folder=tmp_path, **settings) as gateway:
        with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as http:
            headers = make_key(http)
            assert http.post(TEXT, json={"prompt": prompt}, headers=headers).status_code == 202
            wait_for(lambda: _sent(fal, prompt) == 1)
        began = time.monotonic()
        gateway.popen.send_signal(signal.SIGTERM)
        require_quick_end(gateway, began)
    query(database_url, "UPDATE jobs SET next_check_at = now() WHERE status = 'submitting'")  # its lease has ended
    with serving(folder=tmp_path, **settings) as gateway:
        wait_for(lambda: _count(database_url, "unconfirmed") == 1)
    assert _sent(fal, prompt) == 1


def _count(database_url: str, status: str = "%") -> int:
    ((jobs,),) = query(database_url, f"SELECT count(*)::int FROM jobs WHERE status LIKE '{status}'")  # noqa: S608
    assert isinstance(jobs, int)
    return jobs


def _sent(fal: Sandbox, prompt: str) -> int:
    return sum(request["input"]["prompt"] == prompt for request in fal.requests())


@two
def test_whoever_was_being_answered_is_answered_and_what_was_accepted_is_done_by_the_next(
    workers: str, database_url: str, fal: Sandbox, tmp_path: Path
) -> None:
    settings = real(database_url, FAL_QUEUE_URL=fal.url, POLL_SECONDS="0.2")
    with serving("--workers", workers, folder=tmp_path, **settings) as gateway:
        with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as http:
            headers = make_key(http)
        half_sent = [_send_half(gateway.url, headers["Authorization"]) for _ in range(10)]
        with ThreadPoolExecutor(8) as pool:
            loads = [pool.submit(_submit_until_closed, gateway.url, headers) for _ in range(8)]
            time.sleep(0.5)
            began = time.monotonic()
            gateway.popen.send_signal(signal.SIGTERM)
            time.sleep(0.1)
            answers = [_send_rest(each) for each in half_sent]
            statuses = [status for load in loads for status in load.result(20)]
        require_quick_end(gateway, began)
    assert [answer.split(b" ")[1] for answer in answers] == [b"202"] * 10, answers
    assert set(statuses) == {202}
    jobs = _count(database_url)
    assert jobs >= len(statuses) + 10
    with serving(folder=tmp_path, **settings):
        wait_for(lambda: _count(database_url, "succeeded") == jobs)
    sent = [request for request in fal.requests() if request["input"]["prompt"] == f"load {gateway.url}"]
    assert len(sent) == jobs


def _body(url: str) -> bytes:
    return f'{{"prompt": "load {url}"}}'.encode()


def _send_half(url: str, key: str) -> tuple[socket.socket, str]:
    parts = urlsplit(url)
    connection = socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10)
    lines = [f"POST {TEXT} HTTP/1.1", "Host: x", f"Authorization: {key}", "Content-Type: application/json"]
    head = "\r\n".join([*lines, f"Content-Length: {len(_body(url))}", "", ""]).encode()
    connection.sendall(head + _body(url)[:5])
    return connection, url


def _send_rest(sent: tuple[socket.socket, str]) -> bytes:
    connection, url = sent
    with connection:
        connection.sendall(_body(url)[5:])
        return connection.recv(65536)


def _submit_until_closed(url: str, headers: dict[str, str]) -> list[int]:
    """The status of every answer, until nobody takes connections any more."""
    statuses = []
    try:
        while True:
            with httpx.Client(base_url=url, trust_env=False, timeout=10) as http:
                statuses.append(http.post(TEXT, content=_body(url), headers=headers | JSON).status_code)
    except httpx.TransportError:  # refused, or closed before a byte was answered
        return statuses


JSON = {"Content-Type": "application/json"}


@pytest.mark.slow
@two
def test_a_database_that_is_silent_holds_nobody_up(
    workers: str, database_url: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    settings = real(database_url, FAL_QUEUE_URL="http://127.0.0.1:1")
    with serving("--workers", workers, folder=tmp_path, **settings) as gateway:
        with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as http:
            make_key(http)
        postmaster = int((postgres.data_dir / "cluster/postmaster.pid").read_text().split()[0])
        stopped = [postmaster, *(process.pid for process in descendants(postmaster))]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(1)  # loops are waiting for it now
            began = time.monotonic()
            gateway.popen.send_signal(signal.SIGTERM)
            assert gateway.popen.wait(2 * WITHIN_SECONDS) == 0
            assert time.monotonic() - began < WITHIN_SECONDS
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
