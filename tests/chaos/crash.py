"""The crash test: `python -m tests.chaos.crash [--kills 500] [--seed N]` kills a gateway and compares the books.

The sandbox, Postgres and the callers live on; the gateway is born, works until it meets the failpoint that is its turn,
dies of SIGKILL there, and is born again on the same port and database.
"""

import argparse
import asyncio
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from app.catalogue.registry import load_catalogue
from app.cli.migrate import migrate
from app.db import Database
from app.embedded import EmbeddedPostgres
from app.wiring import utc_now
from tests.chaos.backup import dump, restore
from tests.chaos.books import Verdict, compare, reread
from tests.chaos.callers import ERRANDS, Admin, Callers
from tests.chaos.failpoints import FAILPOINTS, NOT_KILLED, steps
from tests.chaos.nursery import Nursery, run_nursery
from tests.chaos.receiver import Receiver, run_receiver
from tests.conftest import ADMIN_KEY, FAL_KEY, SECRET_KEY, settings_for
from tests.gateway import ADMIN, Person
from tests.sandbox.running import Sandbox, run_sandbox

SPEED: Final = 40.0  # a job takes 0.1 s at the sandbox
_LIST_LAG_SECONDS: Final = 0.75 * SPEED  # less than UNCONFIRMED_SECONDS, its room
_QUEUEING_SECONDS: Final = 0.4
_DUMP_AGE_SECONDS: Final = 1.0  # START_SECONDS is 2 instead of 3600 here: five minutes would be 0.2
_WITHIN_SECONDS: Final = 60.0
_MORE_LIVES: Final = 60

WANTS: Final[dict[str, tuple[str, ...]]] = {
    "cancel": ("canceled", "slowly"),
    "put_back": ("refused us", "never started"),
    "unconfirm": ("garbled", "lost"),
    "lost": ("lost, not told", "lost once, not there"),
    "note_absent": ("not there and canceled",),
    "gone:": ("forgotten",),
    "receive": ("told before the answer", "well"),
    "note_attempt": ("refused", "canceled"),
    "check_later": ("locked later",),
    "gone": ("forgotten for a while",),
    "resolve": ("given up",),
    "strays": ("voided", "voided"),
    "upstream": ("refused us", "lost once, not there", "well"),
    "unconfirm_lost": ("slowly", "well"),
}
"""Which errands lead to a failpoint that is not on every job's way, by a part of its name."""

_LATE: Final = ("strays", "recover:", "upstream", "_pin", "put_back")
"""Met only some seconds after what leads there: such a life may be longer."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How much goes on at once, how long a life may be that meets no failpoint, and at which meeting it ends."""

    places: int = 10
    life_seconds: float = 3.0
    meetings: tuple[int, ...] = (1, 1, 2, 3)
    administrates: bool = True


@dataclass
class Report:
    """What a run came to."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    from_outside: int = 0
    met: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    given_up: Counter[str] = field(default_factory=Counter)
    restores: int = 0
    recovered: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterable[str]:
        yield f"seed {self.seed}, {self.seconds:.0f} s"
        yield f"{self.kills.total()} kills at {len(self.kills)} failpoints, {self.from_outside} elsewhere"
        yield f"{self.verdict.jobs} jobs ({dict(self.ends)}), {self.verdict.requests} fal requests"
        yield f"{self.given_up.total()} jobs that only an admin could end: {dict(self.given_up)}"
        yield f"{self.restores} restores"
        yield from (f"    {line}" for line in self.recovered)
        yield f"answers to callers: {dict(sorted(self.statuses.items()))}"
        verdict = self.verdict
        for kind in ("lost", "started_twice", "charged_wrong", "told_wrong", "ledger"):
            found: list[str] = getattr(verdict, kind)
            yield f"{kind.replace('_', ' ')}: {len(found)}"
            yield from (f"    {line}" for line in found[:20])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Run:
    """One run on one database and one sandbox."""

    def __init__(
        self,
        nursery: Nursery,
        sandbox: Sandbox,
        postgres: EmbeddedPostgres,
        db: Database,
        person: Person,
        receiver: Receiver,
        *,
        folder: Path,
        seed: int,
        pace: Pace,
    ) -> None:
        self._pace = pace
        self.report = Report(seed)
        self._postgres = postgres
        self._folder = folder
        self.nursery = nursery
        self._sandbox = sandbox
        self._db = db
        self._chance = random.Random(seed)
        self.callers = Callers([nursery.url], person, sandbox, webhook_url=receiver.url)
        self._receiver = receiver
        self._admin = Admin(nursery.url, self.callers, receiver)
        self._admins: list[asyncio.Task[None]] = []

    async def kill(self, labels: Iterable[str], *, kills: int, restores: int, everywhere: bool) -> None:
        """So many kills, each label in its turn; one that is not met in a life has its turn again later.

        `everywhere`: and then, for some lives, at those that have not been met yet.
        """
        turns = deque(labels)
        everyone = set(turns)
        restore_at = {kills * (number + 1) // (restores + 1) for number in range(restores)}
        lives = 0
        self._begin_admin()
        self.callers.start(self._pace.places)
        while self.report.kills.total() < kills and lives < kills * 3:
            lives += 1
            await self._kill_at(turns)
            if self.report.kills.total() in restore_at:
                restore_at.remove(self.report.kills.total())
                await self._restore(turns)
        for _ in range(_MORE_LIVES if everywhere else 0):
            if spared := sorted(everyone - self.report.kills.keys()):
                await self._kill_at(deque([self._chance.choice(spared)]))
        await self._end_admin()

    async def _kill_at(self, turns: deque[str]) -> None:
        label = turns.popleft()
        await self._provoke(label)
        # half of the lives hear nothing from fal unless they ask
        await asyncio.to_thread(
            self._sandbox.http.post,
            "/_sandbox/webhooks",
            json={"enabled": self._chance.random() < 0.5 or "receive" in label or "webhooks" in label},
        )
        await self.nursery.bear(label, self._chance.choice(self._pace.meetings))
        is_rare = any(part in label for part in _LATE)
        seconds = self._pace.life_seconds * (3 if is_rare else 1)
        died_at = await self.nursery.death(within_seconds=seconds)
        if died_at is None:
            self.report.from_outside += 1
            turns.append(label)
        else:
            self.report.kills[died_at] += 1
            turns.append(label)

    async def _restore(self, turns: deque[str]) -> None:
        """Go on from a dump that has missed what fal and the callers know: sends, answers, ends, two more kills.

        Nothing is asked for in between: that no dump can know.
        """
        await self._end_admin()
        await asyncio.to_thread(self._sandbox.set_fault, call="submit", fault="429")
        await self.nursery.bear()
        await asyncio.sleep(_QUEUEING_SECONDS)  # so that some are `queued` in the dump
        await self.callers.pause()
        file, url = self._folder / "dump", self.nursery.environment["DATABASE_URL"]
        await asyncio.to_thread(dump, url, file)
        await asyncio.to_thread(self._sandbox.http.delete, "/_sandbox/faults")
        await asyncio.sleep(_DUMP_AGE_SECONDS)
        await self.nursery.kill()
        for _ in range(2):
            await self._kill_at(turns)
        await self._db.close()
        await asyncio.to_thread(restore, self._postgres, url, file)
        await asyncio.to_thread(self._recover)
        self.callers.age = self._receiver.age = self.callers.age + 1
        self.report.restores += 1
        self.callers.resume()
        self._begin_admin()
        for label in [each for each in turns if "recover:" in each]:  # met only soon after a restore
            turns.remove(label)
            turns.appendleft(label)

    def _recover(self) -> None:
        command = [sys.executable, "-m", "app.cli", "recover"]
        environment = self.nursery.environment
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=self._folder)
        assert done.returncode == 0, done.stderr
        self.report.recovered.append(done.stdout.splitlines()[0])

    def _begin_admin(self) -> None:
        work = [self._admin.resolve(), *([self._admin.work()] if self._pace.administrates else [])]
        self._admins = [asyncio.create_task(each) for each in work]

    async def _end_admin(self) -> None:
        tasks, self._admins = self._admins, []
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def close_books(self) -> Report:
        """Let everything come to its end with a gateway that is left alone, and compare."""
        await self.nursery.bear()
        self._admins = [asyncio.create_task(self._admin.resolve())]
        try:
            await self.callers.finish(within_seconds=_WITHIN_SECONDS)
            for what in ("attempts WHERE stray_check_at IS NOT NULL", "deliveries WHERE status = 'pending'"):
                await self._until_no(what)
        finally:
            await self._end_admin()
        await reread(self.callers)
        await self.nursery.kill()
        self.report.verdict = await compare(self._db, self._sandbox, self.callers, self._receiver)
        self.report.met = self.nursery.met
        self.report.statuses = self.callers.statuses
        self.report.given_up = Counter(
            told.errand.words
            for told in self.callers.told
            if told.job_id in self.callers.resolved and told.errand not in {ERRANDS["given up"], ERRANDS["voided"]}
        )
        self.report.ends = Counter(told.ended["status"] if told.ended else "none" for told in self.callers.told)
        return self.report

    async def _provoke(self, label: str) -> None:
        for part, errands in WANTS.items():
            if part in label:
                self.callers.wanted.extend(ERRANDS[name] for name in errands)
        async with self._db.plain() as plain:
            if "last_used" in label:
                await plain.execute("UPDATE keys SET last_used_at = now() - interval '1 day'")
            if "balance" in label:
                await plain.execute("UPDATE upstream SET balance_read_at = NULL, balance_warned_at = NULL")
            if "_pin" in label:
                await plain.execute("DELETE FROM fal_accounts")
            if "Upstream._give_back" in label:  # a probe is due, and no slot is free
                await plain.execute(
                    "UPDATE upstream SET degraded_since = now(), reason = 'broken', probe_after = now()"
                )
        if "_warn_if_low" in label:
            await asyncio.to_thread(self._sandbox.http.post, "/_sandbox/account", json={"balance_usd": "1.00"})

    async def _until_no(self, what: str) -> None:
        async with asyncio.timeout(_WITHIN_SECONDS):
            while True:
                async with self._db.plain() as plain:
                    if not await plain.fetchval(f"SELECT count(*) FROM {what}"):  # noqa: S608  ours
                        return
                await asyncio.sleep(0.1)

    async def close(self) -> None:
        await self._end_admin()
        await self.callers.close()
        await self._admin.close()


@asynccontextmanager
async def set_up(
    folder: Path, postgres: EmbeddedPostgres, *, seed: int, pace: Pace, name: str = "chaos"
) -> AsyncIterator[Run]:
    """A sandbox, a database, a nursery, and somebody with a key."""
    postgres.create_database(name)
    url = postgres.dsn(name)
    db = Database(url)
    settings = settings_for(url)
    await migrate(db, settings=settings, catalogue=load_catalogue(), now=utc_now())
    with run_sandbox("--speed", str(SPEED)) as (sandbox, _):
        sandbox.http.post("/_sandbox/list", json={"lag_seconds": _LIST_LAG_SECONDS})
        port = str(free_port())
        environment = {
            "FAL_KEY": FAL_KEY,
            "FAL_ADMIN_KEY": "an-admin-of-fal:its-secret",
            "ADMIN_KEY": ADMIN_KEY,
            "SECRET_KEY": SECRET_KEY,
            "DATABASE_URL": url,
            "FAL_QUEUE_URL": sandbox.url,
            "FAL_REST_URL": sandbox.url,
            "FAL_API_URL": f"{sandbox.url}/v1",
            "PORT": port,
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "FAL_CONCURRENCY": str(max(2, pace.places - 2)),
            "WEBHOOK_ALLOW_PRIVATE": "true",
            "POLL_SECONDS": "0.05",
            "START_SECONDS": "2",
            "JOB_DEADLINE_SECONDS": "3",
            "UNCONFIRMED_SECONDS": "1",
        }
        async with run_receiver() as receiver, run_nursery(environment, folder) as nursery:
            await nursery.bear()
            person = await enrol(nursery.url, receiver)
            await nursery.kill()
            run = Run(nursery, sandbox, postgres, db, person, receiver, folder=folder, seed=seed, pace=pace)
            try:
                yield run
            finally:
                await run.close()
    await db.close()


async def enrol(url: str, receiver: Receiver) -> Person:
    async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False, headers=ADMIN) as http:

        async def make(path: str, **body: object) -> dict[str, str]:
            answer = await http.post(path, json=body)
            assert answer.is_success, answer.text
            return dict(answer.json())

        team = await make("/v1/teams", name="film")
        user = await make("/v1/users", name="Ann", team_id=team["id"], role="member")
        key = await make("/v1/keys", name="key", user_id=user["id"])
        for metric, window, maximum in (
            ("usd", "day", 100_000),
            ("seconds", "hour", 1_000_000),
            ("jobs", "minute", 10_000),
            ("in_flight", None, 1000),
        ):
            for scope, of in (("organization", None), ("user", user["id"])):
                await make("/v1/quotas", scope=scope, scope_id=of, metric=metric, window=window, maximum=maximum)
        person = Person(user["id"], team["id"], key["id"], key["secret"])
        receiver.secrets.add((await http.get("/v1/me/webhook-secret", headers=person.headers)).json()["secret"])
        return person


def all_labels(seed: int) -> list[str]:
    labels = [step for name in FAILPOINTS for step in steps(name)]
    random.Random(seed).shuffle(labels)
    return labels


async def run_crashes(
    folder: Path,
    postgres: EmbeddedPostgres,
    *,
    kills: int,
    restores: int,
    seed: int,
    labels: list[str],
    pace: Pace,
    everywhere: bool = False,
) -> Report:
    begun = time.monotonic()
    async with set_up(folder, postgres, seed=seed, pace=pace, name=f"crash_{seed}") as run:
        await run.kill(labels, kills=kills, restores=restores, everywhere=everywhere)
        report = await run.close_books()
    report.seconds = time.monotonic() - begun
    return report


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--restores", type=int, default=5)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    speed = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "100"}
    with tempfile.TemporaryDirectory() as folder:
        with EmbeddedPostgres(Path(folder) / "data", settings=speed) as postgres:
            report = asyncio.run(
                run_crashes(
                    Path(folder),
                    postgres,
                    kills=given.kills,
                    restores=given.restores,
                    seed=given.seed,
                    labels=all_labels(given.seed),
                    pace=Pace(),
                    everywhere=True,
                )
            )
        print(*report.lines(), sep="\n")
        everywhere = set(all_labels(0))
        passed_over = {step for name in NOT_KILLED for step in steps(name)}
        unknown, spared = set(report.met) - everywhere - passed_over, everywhere - set(report.kills)
        print("met, and in no table:", *sorted(unknown), sep="\n    ")
        print("never killed at:", *sorted(spared), sep="\n    ")
        log = (Path(folder) / "victims.log").read_text().splitlines()
        errors = [line for line in log if " ERROR " in line and "fal is degraded" not in line]
        print(f"errors in the victims' log: {len(errors)}", *errors[:10], sep="\n    ")
    is_whole = report.kills.total() >= given.kills and (given.kills < len(everywhere) or not spared)
    return bool(report.verdict.differences or unknown or errors or not is_whole)


if __name__ == "__main__":
    sys.exit(main())
