"""What a bench runs on: an embedded Postgres that waits for its disk, servers in processes of their own."""

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import URLError

import asyncpg
from sqlalchemy import insert

from app.accounts.key_secrets import hash_of, new_secret
from app.accounts.tables import key_secrets, keys, teams, users
from app.catalogue.registry import load_catalogue
from app.cli.migrate import migrate
from app.db import Database
from app.ids import new_id
from app.ledger.tables import quotas
from app.settings import load_settings
from tests.bench.bare import TABLES

USERS = 50
TEAMS = 5
PLENTY = 99_999_999


@dataclass(frozen=True)
class Figure:
    """What was measured, one value a round, and what it has to reach."""

    what: str
    values: list[float]
    goal: float
    unit: str = ""
    at_least: bool = True
    note: str = ""


@dataclass(frozen=True)
class Server:
    """A server of ours in its own process."""

    port: int
    process: subprocess.Popen[bytes]
    ready_seconds: float

    @property
    def resident_mib(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def serve(app: str, environment: dict[str, str], *, ready: str, port: int | None = None) -> Iterator[Server]:
    """Uvicorn with one worker, once `ready` has answered."""
    port = port or free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--no-access-log", "--log-level", "warning"]
    if app.endswith("()"):
        command = [*command[:3], app.removesuffix("()"), "--factory", *command[4:]]
    begun = time.perf_counter()
    with subprocess.Popen(command, env={**os.environ, **environment}) as process:
        try:
            while True:
                with suppress(URLError, ConnectionError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=5).close()
                    break
                if process.poll() is not None:
                    raise RuntimeError(f"{app} ended while it started")
                time.sleep(0.02)
            yield Server(port, process, time.perf_counter() - begun)
        finally:
            process.terminate()
            process.wait()


async def seed(dsn: str) -> list[str]:
    """Migrate; fifty users with a key each, in five teams, under four quotas. Returns the keys."""
    now = datetime.now(UTC)
    db = Database(dsn)
    settings = load_settings({"FAL_KEY": "bench-key", "DATABASE_URL": dsn}, env_file=None)
    await migrate(db, settings=settings, catalogue=load_catalogue(), now=now)
    bare = await asyncpg.connect(dsn)
    await bare.execute(TABLES)
    await bare.close()
    made = [new_secret() for _ in range(USERS)]
    async with db.begin() as tx:
        team_ids = [new_id(now) for _ in range(TEAMS)]
        await tx.execute(
            insert(teams), [{"id": made_id, "name": secrets.token_hex(4), "created_at": now} for made_id in team_ids]
        )
        for number, secret in enumerate(made):
            user_id, key_id = new_id(now), new_id(now)
            await tx.execute(
                insert(users).values(
                    id=user_id, team_id=team_ids[number % TEAMS], name=f"u{number}", role="member", created_at=now
                )
            )
            await tx.execute(
                insert(keys).values(id=key_id, user_id=user_id, name="k", prefix=secret[:8], created_at=now)
            )
            await tx.execute(insert(key_secrets).values(hash=hash_of(secret.encode()), key_id=key_id, created_at=now))
        for scope, metric, window in (
            ("user", "usd", "day"),
            ("user", "in_flight", None),
            ("team", "usd", "month"),
            ("organization", "usd", "month"),
        ):
            await tx.execute(
                insert(quotas).values(
                    id=new_id(now),
                    scope=scope,
                    scope_id="",
                    metric=metric,
                    window=window,
                    maximum=PLENTY,
                    created_at=now,
                )
            )
    await db.close()
    return made


async def analyse(dsn: str) -> None:
    """Statistics, after filling: on empty tables they would freeze plans that read whole tables."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("ANALYZE")
    await connection.close()


def run(coroutine: object) -> object:
    """On uvloop, as the servers run."""
    import uvloop  # noqa: PLC0415

    return asyncio.Runner(loop_factory=uvloop.new_event_loop).run(coroutine)  # type: ignore[arg-type]
