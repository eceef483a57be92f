"""The soak, `python -m tests.chaos.soak [--minutes 30]`: two replicas, mixed faults, restarts, and nothing grows.

Real `falgate serve` processes on one PostgreSQL, before a sandbox that errs, with webhooks both ways. Replica 1 lives
all the time, and its memory is looked at; replica 2 is ended now and then, in turns by SIGTERM and by SIGKILL. At the
end the three books are compared, and it exits 1 when they differ, when memory or a queue has grown, or when SIGTERM
took too long.
"""

import argparse
import asyncio
import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.catalogue.registry import load_catalogue
from app.cli.migrate import migrate
from app.db import Database
from app.embedded import EmbeddedPostgres
from app.wiring import utc_now
from tests.chaos.books import Verdict, compare, reread
from tests.chaos.callers import ERRANDS, Callers
from tests.chaos.crash import enrol, free_port
from tests.chaos.receiver import Receiver, run_receiver
from tests.conftest import ADMIN_KEY, FAL_KEY, SECRET_KEY, settings_for
from tests.sandbox.running import Sandbox, run_sandbox

ROOT: Final = Path(__file__).parents[2]
SPEED: Final = 10.0
PLACES: Final = 8
SAMPLES: Final = 120
ENDS_WITHIN_SECONDS: Final = 10.0
_SETTLE_SECONDS: Final = 240.0
_OUTAGE_SECONDS: Final = 2.0
_MEMORY_GROWS_BY_LESS_THAN: Final = 1.1  # and 8 MiB
_QUEUE_GROWS_BY_LESS_THAN: Final = 2.0  # and 20
_NEED_AN_ADMIN: Final = {"given up", "voided"}
_LOSE_ANSWERS: Final = {
    "lost",
    "lost, not told",
    "lost and canceled",
    "told before the answer",
    "garbled",
    "lost once, not there",
    "not there and canceled",
    "refused us",
}
"""After each of these the gateway sends no more than one job for a while: most of the time it is to be at work."""

_QUEUES: Final = """
SELECT count(*) FILTER (WHERE status = 'queued') AS queued,
       count(*) FILTER (WHERE status = 'unconfirmed') AS unconfirmed,
       count(*) FILTER (WHERE next_check_at < now() - interval '5 seconds') AS "checks due for 5 s",
       (SELECT count(*) FROM deliveries WHERE status = 'pending') AS "deliveries pending",
       (SELECT count(*) FROM attempts WHERE stray_check_at IS NOT NULL) AS strays
FROM jobs WHERE finished_at IS NULL
"""


@dataclass
class Series:
    """Figures over time, one a sample."""

    by_name: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.by_name.setdefault(name, []).append(value)

    def quarters(self, name: str) -> tuple[float, float]:
        """The medians of the second and of the last quarter."""
        values = self.by_name[name]
        quarter = max(1, len(values) // 4)
        return statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])


class Replica:
    """One `falgate serve`."""

    def __init__(self, environment: dict[str, str], folder: Path, name: str) -> None:
        self._environment = {**environment, "PORT": str(free_port())}
        self._log = folder / f"{name}.log"
        self._folder = folder
        self.url = f"http://127.0.0.1:{self._environment['PORT']}"
        self.process: subprocess.Popen[str] | None = None

    def start(self, **settings: str) -> None:
        """Returns once it accepts connections."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app.cli", "serve"],
                env={**self._environment, **settings},
                cwd=self._folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout
        assert self.process.stdout.readline().startswith("falgate: "), self._log.read_text()[-2000:]

    def end(self, number: int) -> float:
        """Send a signal; how many seconds it took."""
        assert self.process
        begun = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(60)
        assert self.process.stdout
        self.process.stdout.close()
        return time.monotonic() - begun

    def resident_mib(self) -> float:
        assert self.process
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def errors(self) -> list[str]:
        return [
            line for line in self._log.read_text().splitlines() if " ERROR " in line and "fal is degraded" not in line
        ]


class Soak:
    """Both replicas, their callers, and what is measured meanwhile."""

    def __init__(
        self, replicas: tuple[Replica, Replica], callers: Callers, sandbox: Sandbox, db: Database, receiver: Receiver
    ) -> None:
        self.series = Series()
        self.endings: list[float] = []
        self.kills = 0
        self.outages = 0
        self._replicas = replicas
        self._callers = callers
        self._sandbox = sandbox
        self._db = db
        self._receiver = receiver

    async def run(self, seconds: float) -> Verdict:
        self._callers.start(PLACES)
        beside = [asyncio.create_task(work) for work in (self._restart(seconds / 10), self._fail(seconds / 40))]
        for _ in range(SAMPLES):
            await asyncio.sleep(seconds / SAMPLES)
            await self._sample()
            for task in beside:
                if task.done():
                    task.result()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        self._sandbox.http.delete("/_sandbox/faults")
        if self._replicas[1].process is None or self._replicas[1].process.poll() is not None:
            await asyncio.to_thread(self._replicas[1].start)
        await self._callers.finish(within_seconds=_SETTLE_SECONDS)
        await self._deliveries_end()
        await reread(self._callers)
        return await compare(self._db, self._sandbox, self._callers, self._receiver)

    async def _deliveries_end(self) -> None:
        """What waits for its next try, for hours perhaps, is tried now; the receiver is well."""
        self._receiver.is_well = True
        async with self._db.plain() as plain:
            await plain.execute("UPDATE deliveries SET next_try_at = now() WHERE status = 'pending'")
        async with asyncio.timeout(_SETTLE_SECONDS):
            while (await self._read_queues())["deliveries pending"]:
                await asyncio.sleep(1)

    async def _sample(self) -> None:
        self.series.add("replica 1, MiB", self._replicas[0].resident_mib())
        for name, value in (await self._read_queues()).items():
            self.series.add(name, value)

    async def _read_queues(self) -> dict[str, float]:
        async with self._db.plain() as plain:
            return dict((await plain.fetch(_QUEUES))[0])

    async def _restart(self, every_seconds: float) -> None:
        other = self._replicas[1]
        for number in itertools.cycle((signal.SIGTERM, signal.SIGKILL)):
            await asyncio.sleep(every_seconds)
            seconds = await asyncio.to_thread(other.end, number)
            if number == signal.SIGTERM:
                self.endings.append(seconds)
            else:
                self.kills += 1
            await asyncio.to_thread(other.start)

    async def _fail(self, every_seconds: float) -> None:
        """Now and then fal is away for all."""
        for fault in itertools.cycle(("503", "reset", "403-locked", "502-html", "429", "truncated")):
            await asyncio.sleep(every_seconds)
            call = "any" if fault in {"503", "reset", "502-html"} else "status"
            await asyncio.to_thread(self._sandbox.set_fault, call=call, fault=fault, prompt="<")
            await asyncio.sleep(_OUTAGE_SECONDS)
            await asyncio.to_thread(self._sandbox.http.delete, "/_sandbox/faults")
            self.outages += 1

    def complaints(self) -> list[str]:
        """What has grown, or took too long."""
        found = []
        for name in self.series.by_name:
            before, after = self.series.quarters(name)
            most = (
                before * _MEMORY_GROWS_BY_LESS_THAN + 8
                if name.endswith("MiB")
                else before * _QUEUE_GROWS_BY_LESS_THAN + 20
            )
            if after > most:
                found.append(f"{name} grew from {before:g} to {after:g}")
        found += [f"SIGTERM took {each:.1f} s" for each in self.endings if each > ENDS_WITHIN_SECONDS]
        return found

    def table(self) -> str:
        rows = [f"{'':24}{'start':>10}{'2nd quarter':>14}{'last quarter':>14}{'end':>10}"]
        for name, values in self.series.by_name.items():
            before, after = self.series.quarters(name)
            rows.append(f"{name:24}{values[0]:10.0f}{before:14.0f}{after:14.0f}{values[-1]:10.0f}")
        return "\n".join(rows)


async def soak(postgres: EmbeddedPostgres, folder: Path, *, minutes: float) -> bool:
    """Run it, print what came of it; whether all was well."""
    url = postgres.dsn()
    db = Database(url)
    await migrate(db, settings=settings_for(url), catalogue=load_catalogue(), now=utc_now())
    usual = [errand for name, errand in ERRANDS.items() if name not in _NEED_AN_ADMIN | _LOSE_ANSWERS]
    rare = [errand for name, errand in ERRANDS.items() if name in _LOSE_ANSWERS]
    errands = itertools.cycle(usual * 20 + rare)
    with run_sandbox("--speed", str(SPEED)) as (sandbox, _):
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "FAL_KEY": FAL_KEY,
            "ADMIN_KEY": ADMIN_KEY,
            "SECRET_KEY": SECRET_KEY,
            "DATABASE_URL": url,
            "FAL_QUEUE_URL": sandbox.url,
            "FAL_REST_URL": sandbox.url,
            "FAL_API_URL": f"{sandbox.url}/v1",
            "POLL_SECONDS": "1",
            "START_SECONDS": "20",
            "JOB_DEADLINE_SECONDS": "30",
            "UNCONFIRMED_SECONDS": "5",
            "WEBHOOK_ALLOW_PRIVATE": "true",
        }
        one, other = Replica(environment, folder, "one"), Replica(environment, folder, "other")
        for replica in (one, other):
            replica._environment["PUBLIC_URL"] = one.url
            await asyncio.to_thread(replica.start)
        async with run_receiver() as receiver:
            person = await enrol(one.url, receiver)
            callers = Callers([one.url, other.url], person, sandbox, errands=errands, webhook_url=receiver.url)
            run = Soak((one, other), callers, sandbox, db, receiver)
            try:
                verdict = await run.run(minutes * 60)
            finally:
                await callers.close()
                for replica in (one, other):
                    replica.end(signal.SIGTERM)
    await db.close()
    complaints = run.complaints()
    print(run.table())
    print(
        f"{verdict.jobs} jobs ended, {verdict.requests} fal requests, answers {dict(sorted(callers.statuses.items()))}"
    )
    print(f"SIGTERM: {[round(each, 1) for each in run.endings]} s; SIGKILL: {run.kills}; outages of fal: {run.outages}")
    errors = one.errors() + other.errors()
    print(f"errors in the logs: {len(errors)}", *errors[:10], sep="\n    ")
    for kind in ("lost", "started_twice", "charged_wrong", "told_wrong", "ledger"):
        found = getattr(verdict, kind)
        print(f"{kind.replace('_', ' ')}: {len(found)}", *found[:10], sep="\n    ")
    print(*complaints, sep="\n")
    return not (verdict.differences or complaints or errors)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak")
    parser.add_argument("--minutes", type=float, default=30)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="fg") as folder,
        EmbeddedPostgres(Path(folder) / "data", settings={"max_connections": "100"}) as postgres,
    ):
        return not asyncio.run(soak(postgres, Path(folder), minutes=given.minutes))


if __name__ == "__main__":
    sys.exit(main())
