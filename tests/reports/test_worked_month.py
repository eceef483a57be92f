"""October 2026 as the README and docs/accounting.md tell it: their transcripts are run where that month was lived."""

import asyncio
import os
import re
import shlex
import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from string import Template
from typing import Any, Final

import pytest
from click.testing import CliRunner

from app.cli import main as falgate
from app.ledger.audit import audit
from tests.cli.commands import real
from tests.conftest import settings_for
from tests.gateway import Gateway, Person, run_gateway
from tests.sandbox.running import Sandbox, run_sandbox

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("README.md", "docs/accounting.md")
BLOCK: Final = re.compile(r"<!-- worked month: (\d{4}-\d\d-\d\d \d\d:\d\d) -->\n```console\n(.*?)```", re.DOTALL)
COMMAND: Final = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
MORNING: Final = datetime(2026, 11, 1, 8, tzinfo=UTC)


class Calendar:
    """A clock that goes on from whatever moment it was set to."""

    def __init__(self, at: datetime) -> None:
        self.set(at)

    def set(self, at: datetime) -> None:
        self._was = at.timestamp() - time.monotonic()

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self._was + time.monotonic(), UTC)


class Month:
    """The people of two teams, what they ask for, and what fal bills for it on the days of the calendar."""

    def __init__(self, gateway: Gateway, sandbox: Sandbox, calendar: Calendar) -> None:
        self.gateway, self.sandbox, self.calendar = gateway, sandbox, calendar
        self.last: tuple[Person, str] | None = None

    def on(self, day: int, hour: int = 9, minute: int = 0) -> None:
        self.calendar.set(datetime(2026, 10, day, hour, minute, tzinfo=UTC))

    async def person(self, name: str, team: str, role: str = "member") -> Person:
        made = await self.gateway.admin("POST", "/v1/teams", name=team)
        user = await self.gateway.admin("POST", "/v1/users", name=name, team_id=made["id"], role=role)
        key = await self.gateway.admin("POST", "/v1/keys", name="key", user_id=user["id"])
        return Person(user["id"], made["id"], key["id"], key["secret"])

    async def ask(self, who: Person, prompt: str, film: str, **fields: Any) -> str:
        answer = await self.gateway.submit(who, prompt, tags={"film": film}, **fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def end(self, who: Person, job_id: str, *, billed_usd: str) -> None:
        """Wait for its end, and let fal's bill have it at that moment."""
        job = await self.gateway.job(who, job_id, wait=60)
        assert job["finished_at"], job
        event = {"request_id": job["fal_request_id"], "endpoint_id": job["endpoint"], "cost_usd": billed_usd}
        told = {
            "change": [{"request_id": job["fal_request_id"], "cost_usd": None}],
            "extra": [event | {"timestamp": job["finished_at"]}] if Decimal(billed_usd) else [],
        }
        self.sandbox.http.post("/_sandbox/bill", json=told).raise_for_status()

    async def live(self) -> dict[str, str]:
        """All that happens until the clocks say November; what the transcripts' variables stand for."""
        ann, ben = await self.person("Ann", "Film"), await self.person("Ben", "Ads")
        fay = await self.person("Fay", "Finance", "finance")
        await self.gateway.set_quota("250.00", window="month", scope="team", scope_id=ann.team_id)
        await self.gateway.set_quota("3.00", window="month", scope="team", scope_id=ben.team_id)
        self.on(5)
        await self.end(ann, await self.ask(ann, "a boat", "boat"), billed_usd="1.40")
        await self.end(ben, await self.ask(ben, "a shoe", "shoe", model="kling-2.6-pro"), billed_usd="0.70")
        self.on(12)
        await self.end(ann, await self.ask(ann, "a boat at night", "boat", duration="10"), billed_usd="2.80")
        await self.end(ben, await self.ask(ben, "[500]", "shoe"), billed_usd="0")
        self.on(20)
        odd = await self.ask(ann, "[odd-units]", "harbour")
        await self.end(ann, odd, billed_usd="0.84224")
        assert (await self.gateway.submit(ben, "a hat", model="veo-3.1")).status_code == 402
        self.on(31, 23, 50)
        self.sandbox.set_clock(speed=0)
        self.last = ben, await self.ask(ben, "a hat", "hat")
        await self.until("SELECT 1 FROM jobs WHERE status IN ('submitted', 'running')")
        await self.until("SELECT 1 FROM refusals")
        return {"URL": self.gateway.url, "FIN_KEY": fay.secret, "JOB": odd}

    async def until(self, sql: str) -> None:
        for _ in range(3000):
            if await self.fetch(sql):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(sql)

    async def fetch(self, sql: str) -> list[Any]:
        async with self.gateway.wiring.db.plain() as plain:
            return list(await plain.fetch(sql))

    async def turn_to(self, at: datetime) -> None:
        """It is that moment; by the morning of November the job of the last night has ended."""
        if self.last is not None and at >= MORNING:
            self.sandbox.set_clock(speed=100)
            (who, job_id), self.last = self.last, None
            await self.end(who, job_id, billed_usd="1.40")
        self.calendar.set(at)
        # Attempts are dated by the database's clock, which knows nothing of the calendar.
        await self.fetch("UPDATE attempts a SET sent_at = j.created_at FROM jobs j WHERE j.id = a.job_id")


def masked(text: str) -> str:
    """Without what is another each time: ids, and of a moment the time of day."""
    text = re.sub(r"\b(job|team|user|key|entry|price|quota|req)_[0-9a-f]{24,32}\b", r"\1_…", text)
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "REQUEST", text)
    return re.sub(r"(\d{4}-\d\d-\d\d)[T ](?!00:00:00Z)\d\d:\d\d:\d\d(\.\d+)?Z", r"\1 …", text)


async def said(command: str, env: Mapping[str, str]) -> str:
    """What a command of a transcript prints: `falgate` run in here, by the calendar, all else by bash."""
    if command.startswith("falgate "):
        arguments = shlex.split(Template(command).substitute(env))[1:]
        done = await asyncio.to_thread(CliRunner().invoke, falgate, arguments, env=dict(env))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.output
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f"set -o pipefail; {command}",
        env={"PATH": os.environ["PATH"], **env},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, command
    return out.decode().replace("\r\n", "\n")


@pytest.mark.skipif(not shutil.which("curl"), reason="the transcripts call with curl")
async def test_the_worked_month_is_what_the_pages_show(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block at its moment, whichever page it is on; at the end the ledger agrees."""
    monkeypatch.chdir(tmp_path)
    calendar = Calendar(datetime(2026, 10, 1, tzinfo=UTC))
    for name in ("report", "reconcile", "close"):
        monkeypatch.setattr(f"app.cli.{name}.utc_now", calendar)
    blocks = sorted(block for page in PAGES for block in BLOCK.findall((ROOT / page).read_text()))
    with run_sandbox("--speed", "100") as (sandbox, _):
        fal = {"FAL_QUEUE_URL": sandbox.url, "FAL_REST_URL": sandbox.url, "FAL_API_URL": f"{sandbox.url}/v1"}
        settings = settings_for(database_url, poll_seconds="0.2", **fal)
        async with run_gateway(settings, clock=calendar) as gateway:
            month = Month(gateway, sandbox, calendar)
            env = await month.live() | real(database_url, FAL_ADMIN_KEY="fal-admin:key-of-the-tests", **fal)
            for moment, block in blocks:
                await month.turn_to(datetime.fromisoformat(f"{moment}Z"))
                for command, shown in COMMAND.findall(block):
                    assert masked(await said(command, env)) == masked(shown), command
            assert len(blocks) > 3
            assert await audit(gateway.wiring.db, zone=settings.zone) == []
