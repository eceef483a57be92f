"""`falgate serve`: from start to end, in one process and in several."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.cli.database import place_of
from tests.cli.commands import falgate, real, serving
from tests.conftest import ADMIN_KEY, FAL_KEY
from tests.embedded.owners import descendants, query, wait_for

ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


def make_key(http: httpx.Client) -> dict[str, str]:
    """Headers of a new user."""
    team = http.post("/v1/teams", json={"name": "Film"}, headers=ADMIN).json()
    user = http.post("/v1/users", json={"name": "Ann", "team_id": team["id"]}, headers=ADMIN).json()
    key = http.post("/v1/keys", json={"name": "key", "user_id": user["id"]}, headers=ADMIN).json()
    return {"Authorization": f"Bearer {key['secret']}"}


def test_serving_carries_neither_alembic_nor_the_sandbox() -> None:
    program = (
        "import sys; from app.cli import main; import app.cli.serve, app.main, app.cli.worker;"
        "assert main.get_command(None, 'serve');"
        "sys.exit(sum(name in sys.modules for name in"
        " ('alembic', 'mako', 'app.sandbox', 'app.cli.migrate', 'app.cli.demo', 'pytest')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_supervisor_of_workers_carries_no_application() -> None:
    program = "import sys; import app.cli.serve; sys.exit('fastapi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_embedded_and_sandbox_from_nothing_to_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    settings = {"FAL_KEY": "sandbox", "ADMIN_KEY": ADMIN_KEY, "POLL_SECONDS": "0.2"}
    early = falgate("serve", "--embedded", folder=folder, **settings)
    assert early.code == 2
    assert "`falgate migrate --embedded`" in early.err
    assert falgate("migrate", "--embedded", folder=folder, **settings).code == 0
    with serving("--embedded", folder=folder, **settings) as gateway:
        assert "play money" in gateway.log
        with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as http:
            headers = make_key(http) | {"Prefer": "wait=20"}
            job = http.post("/v1/text-to-video", json={"prompt": "a boat [quick]"}, headers=headers).json()
            assert job["status"] == "succeeded", job
        assert gateway.end(signal.SIGTERM) == 0
    assert falgate("audit", "--embedded", folder=folder, **settings).out == "the ledger agrees\n"


def test_the_sandbox_sees_no_secret(empty_url: str, tmp_path: Path) -> None:
    settings = real(empty_url) | {"FAL_KEY": "sandbox"}
    assert falgate("migrate", folder=tmp_path, **settings).code == 0
    with serving(folder=tmp_path, **settings) as gateway:
        (sandbox,) = gateway.below()
        seen = Path(f"/proc/{sandbox.pid}/environ").read_text()
        assert ADMIN_KEY not in seen
        assert "DATABASE_URL" not in seen
        gateway.popen.kill()
        gateway.popen.wait()
        wait_for(lambda: not sandbox.is_alive())


@pytest.fixture
def most_files() -> Iterator[int]:
    """As systemd and shells have it: few files, and more for whoever asks; how many then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, soft), hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_two_workers_share_a_port_and_end_with_their_supervisor(
    database_url: str, tmp_path: Path, most_files: int
) -> None:
    with serving("--workers", "2", folder=tmp_path, **real(database_url)) as gateway:
        workers = {process for process in gateway.below() if b"spawn_main" in cmdline(process.pid)}
        assert len(workers) == 2
        assert {resource.prlimit(each.pid, resource.RLIMIT_NOFILE)[0] for each in workers} == {most_files}
        for _ in range(10):
            assert gateway.get("/health/ready").json() == {"status": "ready"}
        assert ADMIN_KEY not in gateway.log
        gateway.popen.kill()
        gateway.popen.wait()
        wait_for(lambda: not any(process.is_alive() for process in workers))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_is_a_good_end(workers: str, database_url: str, tmp_path: Path) -> None:
    with serving("--workers", workers, folder=tmp_path, **real(database_url)) as gateway:
        assert gateway.end(signal.SIGINT) == 0
        assert "Traceback" not in gateway.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_whoever_waits_is_answered_when_it_ends(workers: str, database_url: str, tmp_path: Path) -> None:
    """fal is away, so the job stays queued; neither the stream nor the wait is cut off."""
    settings = real(database_url, FAL_QUEUE_URL="http://127.0.0.1:1")
    with serving("--workers", workers, folder=tmp_path, **settings) as gateway:
        with httpx.Client(base_url=gateway.url, trust_env=False, timeout=60) as http:
            headers = make_key(http)
            job = http.post("/v1/text-to-video", json={"prompt": "a boat"}, headers=headers).json()
            with http.stream("GET", f"/v1/jobs/{job['id']}/events", headers=headers) as events:
                lines = events.iter_lines()
                while not next(lines).startswith("data:"):
                    pass
                gateway.popen.send_signal(signal.SIGTERM)
                list(lines)  # raises when the stream is broken off instead of ended
        assert gateway.popen.wait(30) == 0
        assert "timeout graceful shutdown exceeded" not in gateway.log


def test_a_newer_schema_is_one_warning(database_url: str, tmp_path: Path) -> None:
    query(database_url, "UPDATE alembic_version SET version_num = '9999'")
    with serving(folder=tmp_path, **real(database_url)) as gateway:
        assert gateway.get("/health/ready").status_code == 200
        assert gateway.log.count("newer than") == 1
        assert "WARNING" in gateway.log


def test_it_says_at_once_which_fal_and_which_database_it_uses(database_url: str, tmp_path: Path) -> None:
    settings = real(database_url, FAL_QUEUE_URL="http://127.0.0.1:1/fal")
    place = database_url.rpartition("@")[2].partition("?")[0].removeprefix("postgresql:///")
    with serving(folder=tmp_path, **settings) as gateway:
        (line,) = (line for line in gateway.log.splitlines() if "fal is 127.0.0.1:1, the database is " in line)
        assert " INFO " in line
        assert line.endswith(place)
        assert "id:secret" not in gateway.log
    with serving(folder=tmp_path, **(settings | {"FAL_KEY": "canary-without-a-colon"})) as gateway:
        assert gateway.log.count("FAL_KEY does not look like fal's id:secret") == 1
        assert "canary" not in gateway.log


def test_the_place_of_a_database_holds_no_password() -> None:
    assert place_of("postgresql://ann:canary@db.example:5432/falgate?sslmode=require") == "db.example:5432/falgate"
    assert place_of("postgresql:///falgate?host=/run/pg&password=canary") == "/run/pg/falgate"
    assert place_of("postgresql:///falgate") == "this machine/falgate"


def test_answers_and_logs_name_no_server_and_no_secret(database_url: str, tmp_path: Path) -> None:
    settings = real(database_url, LOG_LEVEL="debug", LOG_FORMAT="json", FAL_QUEUE_URL="http://127.0.0.1:1")
    with serving(folder=tmp_path, **settings) as gateway:
        assert "server" not in gateway.get("/health/live").headers
        with httpx.Client(base_url=gateway.url, trust_env=False) as http:
            headers = make_key(http)
            http.post("/v1/text-to-video", json={"prompt": "a boat"}, headers=headers)
            secret = headers["Authorization"].removeprefix("Bearer ")
        assert gateway.end(signal.SIGTERM) == 0
        for canary in (ADMIN_KEY, FAL_KEY, secret, database_url):
            assert canary not in gateway.log


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_signal_before_it_is_ready_leaves_nothing(tmp_path: Path) -> None:
    """PostgreSQL is being started when the signal comes."""
    settings = {"FAL_KEY": FAL_KEY, "PATH": os.environ["PATH"]}
    command = [str(Path(sys.executable).with_name("falgate")), "serve", "--embedded"]
    with subprocess.Popen(command, cwd=tmp_path, env=settings, stderr=subprocess.DEVNULL) as popen:
        wait_for(lambda: bool(descendants(popen.pid)))
        below = descendants(popen.pid)
        popen.terminate()
        assert popen.wait(30) == 0
    wait_for(lambda: not any(process.is_alive() for process in below))
