"""What every test may ask for: a PostgreSQL of our own, and a fresh migrated database on it."""

import asyncio
import gc
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app import wiring
from app.catalogue.registry import load_catalogue
from app.cli.migrate import migrate
from app.db import Database
from app.embedded import EmbeddedPostgres
from app.fal import trust
from app.settings import Settings, load_settings
from tests.clients.tools import lines_about_what_is_left_out
from tests.databases import Databases

MEMORY = Path("/dev/shm")  # noqa: S108  pytest makes a folder of its own in it
NEEDED_BYTES = 4 << 30

ADMIN_KEY = "admin-key-of-the-tests-0001"
SECRET_KEY = "secret-key-of-the-tests-000000000001"
FAL_KEY = "canary-fal-key-id:canary-fal-key-secret"


def pytest_configure() -> None:
    """Temporary folders, with the data of every PostgreSQL, lie in memory if there is room: disks are slow."""
    if "PYTEST_DEBUG_TEMPROOT" not in os.environ and MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        found = os.statvfs(MEMORY)
        if found.f_bavail * found.f_frsize >= NEEDED_BYTES and not found.f_flag & os.ST_NOEXEC:
            os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


def pytest_xdist_auto_num_workers() -> int | None:
    """One more than there are cores, unless somebody said how many: a third of what the tests take is waiting."""
    return None if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ else (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """The collector need not walk through all that was imported, again and again."""
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say at the end what this machine could not run."""
    for line in lines_about_what_is_left_out(config):
        terminalreporter.write_line(line, yellow=True)


def settings_for(database_url: str, **more: str) -> Settings:
    """Settings as a test wants them; nothing is read from this machine's environment."""
    nobody = "http://127.0.0.1:9"  # no test calls the real fal
    given = {"FAL_KEY": FAL_KEY, "DATABASE_URL": database_url, "ADMIN_KEY": ADMIN_KEY, "SECRET_KEY": SECRET_KEY}
    given |= {"FAL_QUEUE_URL": nobody, "FAL_REST_URL": nobody, "FAL_API_URL": nobody}
    given |= {name.upper(): value for name, value in more.items()}
    return load_settings(given, env_file=None)


@pytest.fixture(scope="session", autouse=True)
def roots() -> Iterator[ssl.SSLContext]:
    """The usual roots, read once for all gateways of these tests: it takes 20 ms."""
    with pytest.MonkeyPatch.context() as patch:
        read = trust()
        patch.setattr(wiring, "trust", lambda: read)
        yield read


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """One server a test run; nothing in it outlives the run, so it need not wait for the disk."""
    speed = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data", settings=speed) as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """A migrated database that no test connects to: the others are copies of it."""
    postgres.create_database("template_falgate")

    async def fill() -> None:
        db = Database(postgres.dsn("template_falgate"), command_seconds=None)
        settings = settings_for(postgres.dsn("template_falgate"))
        await migrate(db, settings=settings, catalogue=load_catalogue(), now=datetime(2026, 1, 1, tzinfo=UTC))
        await db.close()

    asyncio.run(fill())
    return "template_falgate"


@pytest.fixture(scope="session")
def databases(postgres: EmbeddedPostgres, template: str) -> Iterator[Databases]:
    """Where tests borrow theirs."""
    made = Databases(postgres, template)
    yield made
    made.close()


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A database as new, with the newest schema and the first prices."""
    with databases.lent() as url:
        yield url


@pytest.fixture
def settings(database_url: str) -> Settings:
    """Settings on the test's own database."""
    return settings_for(database_url)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """The test's own database."""
    made = Database(database_url)
    yield made
    await made.close()
