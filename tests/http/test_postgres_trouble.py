"""Postgres silent, locked, full, killed: callers hear 503 soon, what was accepted is there, and all comes back."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from app.catalogue.registry import load_catalogue
from app.cli.migrate import migrate
from app.db import _COMMAND_SECONDS, _CONNECT_SECONDS, _POOL_SECONDS, Database
from app.embedded import EmbeddedPostgres
from app.jobs import group
from app.ledger.audit import audit
from app.wiring import utc_now
from tests.conftest import settings_for
from tests.embedded.owners import descendants
from tests.gateway import Gateway, Person, run_gateway
from tests.jobs.hand import until

from .line import Line
from .world import TEXT, count_rows, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")

MOST_CONNECTIONS = 30
_names = itertools.count()
_END_ALL = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trouble") / "data"


def start(folder: Path) -> EmbeddedPostgres:
    quick = {"fsync": "off", "full_page_writes": "off", "max_connections": str(MOST_CONNECTIONS)}
    return EmbeddedPostgres(folder, settings=quick)


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A server to be ill-treated."""
    with start(folder) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="package")
async def gateway(server: EmbeddedPostgres) -> AsyncIterator[Gateway]:
    async with served(server) as (running, _):
        yield running


@asynccontextmanager
async def served(server: EmbeddedPostgres) -> AsyncIterator[tuple[Gateway, Line]]:
    """A gateway, and its line to the server."""
    name = f"trouble_{next(_names)}"
    server.create_database(name)
    db = Database(server.dsn(name), command_seconds=None)
    await migrate(db, settings=settings_for(server.dsn(name)), catalogue=load_catalogue(), now=utc_now())
    await db.close()
    line = Line(server.dsn(name))
    await line.mend()
    async with run_gateway(settings_for(line.dsn), work=False) as running:
        yield running, line
    await line.cut()


async def every_kind(gateway: Gateway, ann: Person, job_id: str) -> list[httpx.Response]:
    """One call of each kind, several at once of those that go together."""
    http = gateway.client
    calls: list[Awaitable[httpx.Response]] = [
        *(gateway.submit(ann) for _ in range(10)),
        *(http.get(f"/v1/jobs/{job_id}", headers=ann.headers) for _ in range(10)),
        http.get(f"/v1/jobs/{job_id}", headers=ann.headers | {"Prefer": "wait=5"}),
        http.get(f"/v1/jobs/{job_id}/events", headers=ann.headers),
        http.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers),
        http.get("/v1/jobs", headers=ann.headers),
        http.post(f"{TEXT}/estimate", headers=ann.headers, json={"prompt": "x"}),
        http.get(f"/v1/jobs/{job_id}/entries", headers=ann.headers),
        http.get("/health/ready"),
        http.get("/metrics"),
    ]
    return list(await asyncio.gather(*calls))


def require_503(answers: list[httpx.Response]) -> None:
    for answer in answers:
        refusal(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1


async def until_well(gateway: Gateway, ann: Person) -> None:
    """Until it takes jobs again."""
    for _ in range(400):
        if (await gateway.submit(ann)).status_code == 202:
            return
        await asyncio.sleep(0.05)
    raise AssertionError


def processes_of(server: EmbeddedPostgres) -> list[int]:
    """The postmaster first."""
    postmaster = int((server.data_dir / "cluster/postmaster.pid").read_text().split()[0])
    return [postmaster, *(process.pid for process in descendants(postmaster))]


async def test_callers_wait_less_than_ten_seconds_for_anything_of_the_database(server: EmbeddedPostgres) -> None:
    db = Database(server.dsn())
    connection = await db.connect()
    assert await connection.fetchval("SHOW lock_timeout") == "4s"
    assert await connection.fetchval("SHOW statement_timeout") == "7s"
    await connection.close()
    assert 7 < _COMMAND_SECONDS < 10
    assert _CONNECT_SECONDS + _POOL_SECONDS < 10
    assert group.PATIENCE_SECONDS < 5
    patient = await Database(server.dsn(), command_seconds=None).connect()
    assert await patient.fetchval("SHOW statement_timeout") == "30s"
    await patient.close()


async def test_a_server_that_is_silent_is_given_up_and_found_again(
    server: EmbeddedPostgres, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.wiring.db, "_command_seconds", 0.8)
    monkeypatch.setattr(group, "PATIENCE_SECONDS", 0.4)
    ann = await gateway.make_person()
    job_id = (await gateway.submit(ann)).json()["id"]
    await asyncio.gather(*(gateway.client.get("/v1/me", headers=ann.headers) for _ in range(20)))  # fill the pool
    stopped = processes_of(server)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(9):
            require_503(await every_kind(gateway, ann, job_id))
        pool: Any = gateway.wiring.db._engine.pool
        assert pool.checkedout() == 0
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    await until_well(gateway, ann)
    assert (await gateway.job(ann, job_id))["status"] == "queued"


async def test_a_lock_that_somebody_holds_costs_a_503_and_no_more(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = gateway.wiring.db
    monkeypatch.setattr(db, "_session", db._session | {"lock_timeout": "400ms"})
    monkeypatch.setattr(group, "PATIENCE_SECONDS", 0.4)
    ann = await gateway.make_person()
    job_id = (await gateway.submit(ann)).json()["id"]
    await db._engine.dispose()
    holder = await db.connect()
    await holder.execute("BEGIN; LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
    answers = await every_kind(gateway, ann, job_id)
    well = [answer for answer in answers if answer.request.url.path in {"/health/ready", f"{TEXT}/estimate"}]
    assert [answer.status_code for answer in well] == [200, 200]  # they ask for no job
    require_503([answer for answer in answers if answer not in well])
    assert (await gateway.client.get("/v1/me", headers=ann.headers)).status_code == 200
    await holder.execute("ROLLBACK")
    await holder.close()
    assert (await gateway.submit(ann)).status_code == 202
    assert (await count_rows(gateway))["jobs"] == 2


async def test_a_full_connection_table_is_a_503_at_once(gateway: Gateway) -> None:
    ann = await gateway.make_person()
    job_id = (await gateway.submit(ann)).json()["id"]
    crowd: list[Any] = [await gateway.wiring.db.connect()]
    await crowd[0].execute(_END_ALL)
    await gateway.wiring.db._engine.dispose()

    async def crowd_in() -> None:
        for _ in range(2 * MOST_CONNECTIONS):
            crowd.append(await gateway.wiring.db.connect())  # noqa: PERF401  until no more are let in

    with pytest.raises(asyncpg.TooManyConnectionsError):
        await crowd_in()
    async with asyncio.timeout(4):
        require_503(await every_kind(gateway, ann, job_id))
    for connection in crowd:
        await connection.close()
    await until_well(gateway, ann)


class Load:
    """Callers who submit without a pause, and what they were told."""

    def __init__(self, gateway: Gateway, ann: Person) -> None:
        self._gateway = gateway
        self._ann = ann
        self._stopping = asyncio.Event()
        self.accepted: list[str] = []
        self.refused: list[httpx.Response] = []

    async def _submit(self) -> None:
        while not self._stopping.is_set():
            answer = await self._gateway.submit(self._ann)
            if answer.status_code == 202:
                self.accepted.append(answer.json()["id"])
            else:
                self.refused.append(answer)
                await asyncio.sleep(0.02)

    @asynccontextmanager
    async def running(self, callers: int = 8) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._submit()) for _ in range(callers)]
        yield
        self._stopping.set()
        await asyncio.gather(*tasks)

    async def check(self) -> None:
        """All that was accepted is there, what is there was accepted or is unknown to its caller, no other refusal."""
        require_503(self.refused)
        async with self._gateway.wiring.db.plain() as plain:
            rows = {f"job_{row['id'].hex}" for row in await plain.fetch("SELECT id FROM jobs")}
        assert set(self.accepted) <= rows
        assert len(set(self.accepted)) == len(self.accepted) > 0
        unknown = sum("may have been accepted" in answer.text for answer in self.refused)
        assert len(rows - set(self.accepted)) <= unknown
        assert await audit(self._gateway.wiring.db, zone=self._gateway.wiring.settings.zone) == []


async def test_while_every_connection_is_ended_again_and_again_no_accepted_job_is_lost(gateway: Gateway) -> None:
    ann = await gateway.make_person()
    load = Load(gateway, ann)
    outside = await gateway.wiring.db.connect()
    async with load.running():
        for _ in range(30):
            await outside.execute(_END_ALL)
            await asyncio.sleep(0.05)
    await outside.close()
    assert load.refused
    await load.check()


async def _kill_and_restart(folder: Path, times: int) -> None:
    server = start(folder).__enter__()
    try:
        async with served(server) as (gateway, line):
            ann = await gateway.make_person()
            load = Load(gateway, ann)
            async with load.running():
                for _ in range(times):
                    await _until_grown(load)
                    name = line._name.removeprefix("/")
                    os.kill(processes_of(server)[0], signal.SIGKILL)
                    await asyncio.to_thread(server.close)
                    server = await asyncio.to_thread(start(folder).__enter__)
                    line.lay_to(server.dsn(name))
                    back_at = time.monotonic()
                    await _until_grown(load)
                    assert time.monotonic() - back_at < 5
            assert load.refused
            await load.check()
    finally:
        server.close()


async def _until_grown(load: Load) -> None:
    before = len(load.accepted)
    await until(lambda: len(load.accepted) >= before + 20, seconds=30)


async def test_postgres_killed_under_load_loses_nothing_and_is_found_again(tmp_path: Path) -> None:
    await _kill_and_restart(tmp_path / "data", times=1)


@pytest.mark.slow
async def test_postgres_killed_ten_times_under_load_loses_nothing(tmp_path: Path) -> None:
    await _kill_and_restart(tmp_path / "data", times=10)
