"""Callers as programs behave: a key for each submit, the same again when an answer was lost, and a good memory."""

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import httpx

from tests.chaos.receiver import Receiver
from tests.gateway import ADMIN, Person
from tests.sandbox.running import TEXT, Sandbox

PATH: Final = "/v1/text-to-video"
FAL_PATH: Final = "/fal/fal-ai/kling-video/v2.1/master/text-to-video"
ENDED: Final = frozenset({"succeeded", "failed", "canceled"})
_AGAIN: Final = frozenset({503})
_POLL_SECONDS: Final = 0.12
_PARKED_POLL_SECONDS: Final = 0.6
_PARKED_AFTER: Final = 25  # polls


@dataclass(frozen=True)
class Errand:
    """What a caller wants: a prompt's words for the sandbox, and what it does meanwhile."""

    words: str
    cancels: bool = False
    fault: tuple[str, str, int] | None = None  # call, name, times: of fal, for this prompt alone
    accepted: bool = False  # whether fal has it in spite of the fault


ERRANDS: Final[dict[str, Errand]] = {
    "well": Errand("[quick]"),
    "slowly": Errand(""),
    "requeued": Errand("[requeue]"),
    "refused": Errand("[refuse-at-submit]"),
    "failing": Errand("[refuse]"),
    "broken": Errand("[500]"),
    "billed failure": Errand("[refuse-billed]"),
    "canceled": Errand("[hang]", cancels=True),
    "canceled too late": Errand("[finishes-anyway]", cancels=True),
    "never started": Errand("[never-starts]", cancels=True),
    "locked later": Errand("[locked-later]"),
    "odd status": Errand("[unknown-status]"),
    "lost": Errand("[lost]"),
    "lost, not told": Errand("[lost] [no-webhook]"),
    "lost and canceled": Errand("[lost] [no-webhook]", cancels=True),
    "told before the answer": Errand("[late-answer]"),
    "not told": Errand("[no-webhook]"),
    "told half": Errand("[bare-webhook] [quick]"),
    "not there and canceled": Errand("[dropped]", cancels=True),
    "forgotten": Errand("[forgotten] [no-webhook]"),
    "garbled": Errand("[garbled]"),
    "lost once, not there": Errand("[quick]", fault=("submit", "reset", 1)),
    "refused us": Errand("[quick]", fault=("submit", "429", 2)),
    "forgotten for a while": Errand("[quick]", fault=("status", "404", 3)),
    "result in trouble": Errand("[garbled-result]"),
    "given up": Errand("[silent]"),  # an admin does not wait for evidence
    "voided": Errand("[quick]", fault=("result", "502-html", 1000)),  # fal has it, and an admin says otherwise
}


@dataclass
class Told:
    """What one caller asked for and was told of it."""

    number: int
    errand: Errand
    job_id: str | None = None
    age: int = 0
    ended: dict[str, Any] | None = None
    last: dict[str, Any] = field(default_factory=dict)
    cancels: list[int] = field(default_factory=list)
    unconfirmed_since: float | None = None

    @property
    def unconfirmed_for(self) -> float:
        """Seconds, as its caller sees it."""
        return 0.0 if self.unconfirmed_since is None else time.monotonic() - self.unconfirmed_since

    @property
    def prompt(self) -> str:
        return f"<{self.number}> {self.errand.words}".strip()

    @property
    def by_fal(self) -> bool:
        """Whether it is asked for as fal is asked: without a key or a webhook, and again if no answer comes."""
        return self.number % 4 == 3

    @property
    def key(self) -> str:
        return "" if self.by_fal else f"errand-{self.number}"


class Callers:
    """So many errands at once, until `stop`; `told` is the callers' book."""

    def __init__(
        self,
        urls: Sequence[str],
        person: Person,
        sandbox: Sandbox,
        *,
        errands: Iterator[Errand] | None = None,
        **fields: Any,
    ) -> None:
        self.told: list[Told] = []
        self.wanted: deque[Errand] = deque()
        self.wrong: list[str] = []
        self.statuses: Counter[int] = Counter()
        self.resolved: dict[str, str] = {}
        """Jobs that an admin has ended, and how."""
        self.age = 0
        """Grows by one when the gateway's memory was put back: what was told before may be told again."""
        self._fields = fields
        self.person = person
        self.sandbox = sandbox
        self._usual = itertools.cycle(ERRANDS.values()) if errands is None else errands
        self._open = asyncio.Event()
        self._open.set()
        self._stopping = False
        self._writing = 0
        self._tasks: set[asyncio.Task[None]] = set()
        limits = httpx.Limits(max_connections=40, max_keepalive_connections=20)
        self._http = httpx.AsyncClient(timeout=10, trust_env=False, limits=limits)
        self._urls = itertools.cycle(urls)

    def start(self, places: int) -> None:
        self._tasks = {asyncio.create_task(self._work()) for _ in range(places)}

    async def pause(self) -> None:
        """Nothing new is asked for; returns once no submit and no cancel is without its answer."""
        self._open.clear()
        while self._writing:
            await asyncio.sleep(0.01)

    def resume(self) -> None:
        self._open.set()

    async def finish(self, *, within_seconds: float, stop: bool = True) -> None:
        """No new errands (unless told otherwise); those under way are seen to their end, if it comes in time."""
        self._stopping = stop
        self._open.set()
        waiting: set[asyncio.Task[None]] = set(self._tasks)
        deadline = asyncio.get_running_loop().time() + within_seconds
        while waiting and asyncio.get_running_loop().time() < deadline:
            done, _ = await asyncio.wait(waiting, timeout=1)
            for task in done:
                task.result()
            waiting = {task for task in self._tasks if not task.done()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    async def _work(self) -> None:
        while not self._stopping:
            await self._open.wait()
            errand = self.wanted.popleft() if self.wanted else next(self._usual, None)
            if errand is None:
                return
            told = await self.begin(errand)
            if not await self._follow(told, polls=_PARKED_AFTER, every=_POLL_SECONDS):
                task = asyncio.create_task(self._follow_on(told))
                self._tasks.add(task)

    async def begin(self, errand: Errand) -> Told:
        """Submit it, until there is an answer."""
        told = Told(len(self.told), errand)
        self.told.append(told)
        await self._submit(told)
        return told

    async def see_ended(self, errand: Errand) -> None:
        """Submit it, and follow it to its end."""
        await self._follow(await self.begin(errand), polls=10**6, every=0.05)

    async def _follow_on(self, told: Told) -> None:
        await self._follow(told, polls=10**6, every=_PARKED_POLL_SECONDS)

    async def _submit(self, told: Told) -> None:
        if told.errand.fault:
            call, fault, times = told.errand.fault
            await asyncio.to_thread(
                self.sandbox.set_fault,
                call=call,
                fault=fault,
                times=times,
                prompt=f"<{told.number}>",
                accepted=told.errand.accepted,
            )
        self._writing += 1
        try:
            fields = {} if told.by_fal else self._fields
            path = FAL_PATH if told.by_fal else PATH
            answer = await self.ask_until_answered("POST", path, json={"prompt": told.prompt, **fields}, key=told.key)
        finally:
            self._writing -= 1
        if answer.status_code not in {200, 202}:
            self.wrong.append(f"{told.prompt} was answered {answer.status_code} {answer.text}")
            return
        told.age = self.age
        if told.by_fal:
            told.job_id = answer.json()["request_id"]
        else:
            self.hear(told, answer.json())

    async def _follow(self, told: Told, *, polls: int, every: float) -> bool:
        for poll in range(polls):
            if told.job_id is None or told.ended is not None:
                return True
            await asyncio.sleep(every)
            answer = await self.ask_until_answered("GET", f"/v1/jobs/{told.job_id}")
            if answer.status_code != 200:
                self.wrong.append(f"{told.job_id} ({told.prompt}) was answered {answer.status_code} {answer.text}")
                return True
            self.hear(told, answer.json())
            if told.errand.cancels and poll % 4 == 2 and told.ended is None and self._open.is_set():
                self._writing += 1
                answer = await self.ask_until_answered("POST", f"/v1/jobs/{told.job_id}/cancel")
                self._writing -= 1
                told.cancels.append(answer.status_code)
        return told.ended is not None

    async def ask_until_answered(self, method: str, path: str, *, key: str = "", **how: Any) -> httpx.Response:
        """The same request, of one replica after the other, until there is an answer that says something."""
        headers = {**self.person.headers, **({"Idempotency-Key": key} if key else {})}
        while True:
            try:
                answer = await self._http.request(method, next(self._urls) + path, headers=headers, **how)
            except httpx.TransportError:
                await asyncio.sleep(0.03)
                continue
            self.statuses[answer.status_code] += 1
            if answer.status_code not in _AGAIN:
                return answer
            await asyncio.sleep(0.05)

    def hear(self, told: Told, job: dict[str, Any]) -> None:
        """Remember it, and notice when it cannot be true beside what was told before."""
        if told.job_id not in {None, job["id"]}:
            self.wrong.append(f"{told.prompt} was given two jobs: {told.job_id} and {job['id']}")
        if told.age == self.age and told.last and job["version"] < told.last["version"]:
            self.wrong.append(f"{told.job_id}: version {told.last['version']} was followed by {job['version']}")
        told.job_id, told.last = job["id"], job
        if job["status"] != "unconfirmed":
            told.unconfirmed_since = None
        elif told.unconfirmed_since is None:
            told.unconfirmed_since = time.monotonic()
        if job["status"] in ENDED and told.ended is None:
            told.ended, told.age = job, self.age


class Admin:
    """What an admin does meanwhile: each step once whatever becomes of it, so a kill in between loses the rest."""

    def __init__(self, url: str, callers: Callers, receiver: Receiver) -> None:
        self._receiver = receiver
        self._knows_secret = False
        self.patience_seconds = 25.0
        self._callers = callers
        self._turn = 0
        self._http = httpx.AsyncClient(base_url=url, timeout=10, trust_env=False, headers=ADMIN)

    async def work(self) -> None:
        """Administrate for ever."""
        while True:
            self._turn += 1
            with suppress(httpx.TransportError, KeyError):
                await self._people()
            with suppress(httpx.TransportError, KeyError):
                await self._money()
            with suppress(httpx.TransportError, KeyError, IndexError):
                await self._webhooks()
            await asyncio.sleep(0.2)

    async def resolve(self) -> None:
        """For ever: end what nobody can tell about, at what fal's own books say."""
        while True:
            for told in list(self._callers.told):
                is_open = told.job_id is not None and told.ended is None and told.last.get("status") == "unconfirmed"
                is_given_up = told.errand in {ERRANDS["given up"], ERRANDS["voided"]}
                if is_open and (is_given_up or told.unconfirmed_for > self.patience_seconds):
                    with suppress(httpx.TransportError):
                        await self._resolve(told)
            await asyncio.sleep(0.2)

    async def close(self) -> None:
        await self._http.aclose()

    async def _resolve(self, told: Told) -> None:
        requests = await asyncio.to_thread(self._callers.sandbox.requests, prompt=f"<{told.number}>")
        if any(request["status"] != "COMPLETED" for request in requests):
            return
        usd = sum((bill_of(request, Decimal(told.last["quoted_usd"])) for request in requests), Decimal(0))
        is_charge = usd and not (told.errand is ERRANDS["voided"] and told.last["fal_request_id"])
        body = {"outcome": "charge", "amount_usd": f"{usd:.2f}"} if is_charge else {"outcome": "void"}
        self._callers.resolved[str(told.job_id)] = told.prompt
        try:
            answer = await self._http.post(f"/v1/jobs/{told.job_id}/resolve", json={"note": "fal's bill", **body})
        finally:  # a kill may have come before the answer
            if told.errand is ERRANDS["voided"]:
                await asyncio.to_thread(self._callers.sandbox.http.delete, "/_sandbox/faults")
        if answer.status_code not in {200, 409, 503}:
            self._callers.wrong.append(f"resolving {told.job_id} was answered {answer.status_code} {answer.text}")

    async def _do(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        answer = await self._http.request(method, path, json=body or None)
        if answer.status_code in {400, 401, 422, 500}:
            self._callers.wrong.append(f"{method} {path} was answered {answer.status_code} {answer.text}")
        return dict(answer.json()) if answer.content and answer.is_success else {}

    async def _people(self) -> None:
        team = (await self._do("POST", "/v1/teams", name=f"team of turn {self._turn}"))["id"]
        await self._do("PATCH", f"/v1/teams/{team}", name=f"the team of turn {self._turn}")
        user = (await self._do("POST", "/v1/users", name=f"user {self._turn}", team_id=team, role="member"))["id"]
        await self._do("PATCH", f"/v1/users/{user}", role="lead")
        key = (await self._do("POST", "/v1/keys", name="key", user_id=user))["id"]
        freeze = (await self._do("POST", "/v1/freeze", scope="user", scope_id=user, note="a test"))["id"]
        await self._do("DELETE", f"/v1/freezes/{freeze}")
        await self._do("PATCH", f"/v1/keys/{key}", name="other")
        other = (await self._do("POST", f"/v1/keys/{key}/rotate", grace_seconds=0))["id"]
        await self._do("DELETE", f"/v1/keys/{other}")

    async def _webhooks(self) -> None:
        """Never two secrets that nobody was told: the one before signs along, no more."""
        path, headers = "/v1/me/webhook-secret", self._callers.person.headers
        if self._knows_secret:
            self._knows_secret = False
            await self._http.post(f"{path}/rotate", headers=headers)
        answer = await self._http.get(path, headers=headers)
        self._receiver.secrets.add(answer.json()["secret"])
        self._knows_secret = True
        delivery = (await self._http.get("/v1/deliveries", headers=headers)).json()["data"][0]
        await self._do("POST", f"/v1/deliveries/{delivery['id']}/redeliver")

    async def _money(self) -> None:
        of = {"scope": "team", "scope_id": self._callers.person.team_id, "metric": "usd", "window": "week"}
        held = (await self._http.get("/v1/quotas", params={"scope": "team"})).json()["data"]
        quota = held[0] if held else await self._do("POST", "/v1/quotas", **of, maximum=100_000)
        await self._do("PATCH", f"/v1/quotas/{quota['id']}", maximum=90_000)
        await self._do("DELETE", f"/v1/quotas/{quota['id']}")
        price = {"base_seconds": "5", "base_usd": "9.00", "usd_per_second": "1.00", "endpoint": TEXT}
        at = f"2099-01-01T{self._turn // 3600:02}:{self._turn // 60 % 60:02}:{self._turn % 60:02}Z"
        made = await self._do("POST", "/v1/prices", **price, starts_at=at)
        await self._do("DELETE", f"/v1/prices/{made['id']}")


def bill_of(request: dict[str, Any], quoted_usd: Decimal) -> Decimal:
    """What fal bills for it (FAL.md 2.4): no 5xx, nothing without units but a success."""
    status, units = request["result_status"], request["billable_units"]
    if status is None or status >= 500:
        return Decimal(0)
    return quoted_usd if (units is None and status == 200) or units not in {None, "0"} else Decimal(0)
