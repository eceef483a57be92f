"""What the demo does and says: everything over HTTP, as any caller would."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import click
import httpx

from app.cli.picture import data_uri
from app.cli.refusals import Refusal

TEAM: Final = {"name": "Demo", "external_id": "falgate-demo"}
USER: Final = {"name": "Ann", "email": "ann@demo.falgate.example", "external_id": "falgate-demo-ann"}
DAILY_USD: Final = Decimal("70.00")
ENOUGH_USD: Final = Decimal("35.00")
"""What the journeys of the README and the pages beside it ask for, twice (17 dollars each time)."""
VIDEOS: Final = {
    "text-to-video": {"prompt": "a paper boat on a quiet lake at dawn", "duration": "5"},
    "image-to-video": {"prompt": "the colours begin to flow", "duration": "5"},
}
_IN_WORDS: Final = {"hold": "promised", "settle": "charged", "void": "given back"}
_ENDED: Final = {"succeeded", "failed", "canceled"}


@dataclass(frozen=True)
class Person:
    """Somebody with a key and a quota."""

    user_id: str
    secret: str

    @property
    def headers(self) -> dict[str, str]:
        """What the person's calls carry."""
        return {"Authorization": f"Bearer {self.secret}"}


class Tour:
    """A visit to a running gateway, told line by line."""

    def __init__(self, url: str, *, admin_key: str) -> None:
        self.url = url
        self._admin = {"Authorization": f"Bearer {admin_key}"}
        self._http = httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)
        self._began_at = time.monotonic()

    async def __aenter__(self) -> Self:
        _tell("gateway", f"{self.url} (docs: {self.url}/docs)")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def make_person(self) -> Person:
        """Team and user (those of the last time, if there was one), a new key, and a quota with room in it."""
        team = await self._find_or_make("/v1/teams", TEAM)
        user = await self._find_or_make("/v1/users", USER | {"team_id": team["id"]})
        body = {"user_id": user["id"], "name": "demo"}
        key = await self._call("POST", "/v1/keys", headers=self._admin, json=body)
        person = Person(user["id"], key["secret"])
        _tell("team, user", f"{team['name']}, {user['name']}")
        _tell("key", f"{key['prefix']}… (a new one; only its hash is kept)")
        await self._make_room(person)
        _tell("quota", await self.read_quota(person))
        return person

    async def _find_or_make(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        wanted = {"external_id": body["external_id"]}
        found = await self._call("GET", path, headers=self._admin, params=wanted)
        if found["data"]:
            return dict(found["data"][0])
        return await self._call("POST", path, headers=self._admin, json=body)

    async def _make_room(self, person: Person) -> None:
        """A quota of so many dollars a day; raised when too many demos were seen today."""
        standing = await self._find_quota(person)
        if standing is None:
            scope = {"scope": "user", "scope_id": person.user_id, "metric": "usd", "window": "day"}
            body = scope | {"maximum": str(DAILY_USD)}
            await self._call("POST", "/v1/quotas", headers=self._admin, json=body)
        elif Decimal(standing["remaining"]) < ENOUGH_USD:
            maximum = Decimal(standing["used"]) + Decimal(standing["held"]) + DAILY_USD
            path = f"/v1/quotas/{standing['quota_id']}"
            await self._call("PATCH", path, headers=self._admin, json={"maximum": str(maximum)})
            _tell("quota", f"raised from {standing['maximum']} to {maximum} USD a day, as earlier demos used it up")

    async def _find_quota(self, person: Person) -> dict[str, Any] | None:
        me = await self._call("GET", "/v1/me", headers=person.headers)
        own = (quota for quota in me["quotas"] if (quota["scope"], quota["metric"]) == ("user", "usd"))
        return next((dict(quota) for quota in own if quota["window"] == "day"), None)

    async def read_quota(self, person: Person) -> str:
        """The person's quota as it stands now, in words."""
        quota = await self._find_quota(person)
        if quota is None:
            raise Refusal("The quota of the demo is gone.")
        return f"{quota['remaining']} USD left of {quota['maximum']} a day ({quota['used']} used, {quota['held']} held)"

    async def ask_for_videos(self, person: Person) -> dict[str, dict[str, Any]]:
        """One video of each kind, at once, each followed to its end; what became of each."""
        self._began_at = time.monotonic()
        bodies = {kind: dict(body) for kind, body in VIDEOS.items()}
        bodies["image-to-video"]["image_url"] = data_uri()
        jobs = await asyncio.gather(*(self._ask(person, kind, body) for kind, body in bodies.items()))
        return dict(zip(bodies, jobs, strict=True))

    async def _ask(self, person: Person, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
        job = await self._call("POST", f"/v1/{kind}", headers=person.headers, json=body)
        self._tell_status(kind, job["status"], f"{job['quoted_usd']} USD promised")
        async for seen in self._events(person, job["id"]):
            if seen["status"] not in {job["status"], "submitting"}:
                charged = f"{seen['charged_usd']} USD charged" if seen["status"] in _ENDED else ""
                self._tell_status(kind, seen["status"], charged)
            job = seen
        if job["status"] != "succeeded":
            reason = (job["error"] or {}).get("detail", "no reason was given")
            raise Refusal(f"The {kind} is {job['status']}: {reason}")
        return job

    async def _events(self, person: Person, job_id: str) -> AsyncIterator[dict[str, Any]]:
        async with self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers=person.headers) as answer:
            event = ""
            async for line in answer.aiter_lines():
                if line.startswith("event:"):
                    event = line.removeprefix("event:").strip()
                if line.startswith("data:") and event == "job":
                    yield json.loads(line.removeprefix("data:"))

    def _tell_status(self, kind: str, status: str, remark: str) -> None:
        seconds = time.monotonic() - self._began_at
        click.echo(f"  {seconds:5.1f} s  {kind:<16}{status:<12}{remark}".rstrip())

    async def save_video(self, job: Mapping[str, Any], path: Path) -> None:
        """Fetch the video from where fal put it."""
        url = job["output"]["video"]["url"]
        answer = await self._http.get(url)
        if not answer.is_success:
            raise Refusal(f"{url} answered {answer.status_code} instead of a video.")
        link = _write(path, answer.content)
        click.echo(f"  {path}  ({len(answer.content):,} bytes)")
        click.echo(f"      {link}")
        click.echo(f"      {url}")

    async def tell_cost(self, person: Person, kind: str, job: Mapping[str, Any]) -> None:
        """The job's entries in the ledger, oldest first."""
        entries = await self._call("GET", f"/v1/jobs/{job['id']}/entries", headers=person.headers)
        told = (
            f"{entry['amount_usd']} {_IN_WORDS.get(entry['kind'], entry['kind'])}" for entry in entries["data"][::-1]
        )
        click.echo(f"  {kind:<16}{job['charged_usd']} USD for {job['seconds']:g} s: {', '.join(told)}")

    async def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer = await self._http.request(method, path, **request)
        if not answer.is_success:
            problem = answer.json()
            raise Refusal(f"{method} {path} was refused: {problem['title']}. {problem['detail']}")
        return dict(answer.json())


def _write(path: Path, content: bytes) -> str:
    """Write a file whole, in one step; returns its link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(content)
    return part.replace(path).resolve().as_uri()


def _tell(what: str, text: str) -> None:
    click.echo(f"  {what:<12}{text}")
