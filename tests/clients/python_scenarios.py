"""What a program does with fal-client, once with its sync and once with its async functions.

Started by test_python_client.py, a process a side, with the settings that fal documents for its client (FAL_KEY,
FAL_RUN_HOST, FAL_QUEUE_RUN_HOST, SSL_CERT_FILE) and three of the test's own. Prints {scenario: what was seen} as JSON.
"""

import asyncio
import inspect
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import fal_client
import httpx

OWNER = "fal-ai/kling-video"
TEXT = f"{OWNER}/v2.1/master/text-to-video"
IMAGE = f"{OWNER}/v2.1/master/image-to-video"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63606060000000040001f61738550"
    "000000049454e44ae426082"
)
HELD = "[never-starts] [hang]"  # nothing happens to it until it is moved by hand
SECONDS = 20.0
AT_ONCE = 20

Say = Callable[[str, Any], None]
Scenario = Callable[["Client", "Stage", Say], Awaitable[None]]


class Client:
    """One flavour of fal_client. Its functions and the methods of its handles are all awaited."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix

    async def __call__(self, name: str, *arguments: Any, **options: Any) -> Any:
        return await self.call(getattr(fal_client, name + self.suffix), *arguments, **options)

    async def call(self, function: Any, *arguments: Any, **options: Any) -> Any:
        if inspect.iscoroutinefunction(function):
            return await function(*arguments, **options)
        return await asyncio.to_thread(function, *arguments, **options)

    def callback(self, note: Callable[[Any], None]) -> Callable[[Any], Any]:
        """One that may take its time: an async one for the async functions."""

        async def note_aside(value: Any) -> None:
            await asyncio.to_thread(note, value)

        return note_aside if self.suffix else note

    async def events_of(self, handle: Any, note: Callable[[Any], None]) -> None:
        events = handle.iter_events(with_logs=True, interval=0.05)
        if hasattr(events, "__aiter__"):
            async for event in events:
                await asyncio.to_thread(note, event)
        else:
            await asyncio.to_thread(deque, map(note, events), maxlen=0)

    def with_key(self, key: str) -> Any:
        return fal_client.AsyncClient(key=key) if self.suffix else fal_client.SyncClient(key=key)


class Stage:
    """The job of one scenario as the pretended fal behind all this has it: by it a scenario turns the clock."""

    def __init__(self, http: httpx.Client, name: str) -> None:
        self._http = http
        self.name = name

    def prompt(self, words: str = "") -> str:
        return f"({self.name}) {words}"

    def find(self) -> dict[str, Any]:
        """Wait until fal has it."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if found := self._http.get("/_sandbox/requests", params={"prompt": f"({self.name})"}).json()["requests"]:
                return dict(found[0])
            time.sleep(0.03)
        raise TimeoutError(f"{self.name}: fal never had it")

    def move(self, status: str) -> None:
        request_id = self.find()["request_id"]
        self._http.patch(f"/_sandbox/requests/{request_id}", json={"status": status}).raise_for_status()


class Watcher:
    """Moves a held job on when the client has seen where it stands; keeps what it saw, without repeats."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.seen: list[Any] = []

    def __call__(self, status: Any) -> None:
        if self.seen and type(self.seen[-1]) is type(status):
            self.seen.pop()
        elif isinstance(status, fal_client.Queued):
            self._stage.move("IN_PROGRESS")
        if isinstance(status, fal_client.InProgress) and len(status.logs or ()) == 6:  # all it writes
            self._stage.move("COMPLETED")
        self.seen.append(status)


async def subscribe(client: Client, stage: Stage, say: Say) -> None:
    enqueued: list[str] = []
    watcher = Watcher(stage)
    output = await client(
        "subscribe",
        TEXT,
        {"prompt": stage.prompt(HELD)},
        with_logs=True,
        on_enqueue=enqueued.append,
        on_queue_update=client.callback(watcher),
    )
    say("enqueued", enqueued)
    say("updates", watcher.seen)
    say("output", output)


async def subscribe_plainly(client: Client, stage: Stage, say: Say) -> None:
    say("output", await client("subscribe", TEXT, {"prompt": stage.prompt(), "duration": "10", "aspect_ratio": "9:16"}))


async def submit_status_result(client: Client, stage: Stage, say: Say) -> None:
    handle = await client("submit", TEXT, {"prompt": stage.prompt(HELD)})
    say("handle", handle)
    say("queued", await client.call(handle.status))
    await asyncio.to_thread(stage.move, "IN_PROGRESS")
    say("running", await _until(client, handle, fal_client.InProgress))
    say("running by id", await client("status", TEXT, handle.request_id))
    await asyncio.to_thread(stage.move, "COMPLETED")
    say("output", await client.call(handle.get, interval=0.05))
    say("output by id", await client("result", TEXT, handle.request_id))
    say("completed", await client.call(handle.status, with_logs=False))


async def _until(client: Client, handle: Any, kind: type) -> Any:
    while not isinstance(status := await client.call(handle.status), kind):
        await asyncio.sleep(0.03)
    return status


async def iter_events(client: Client, stage: Stage, say: Say) -> None:
    handle = await client("submit", TEXT, {"prompt": stage.prompt(HELD)})
    watcher = Watcher(stage)
    await client.events_of(handle, watcher)
    say("events", watcher.seen)


async def path_apart(client: Client, stage: Stage, say: Say) -> None:
    handle = await client("submit", OWNER, {"prompt": stage.prompt()}, path="v2.1/master/text-to-video")
    say("output", await client.call(handle.get, interval=0.05))


async def image(client: Client, stage: Stage, say: Say) -> None:
    image_url = encode_image()
    say("output", await client("subscribe", IMAGE, {"prompt": stage.prompt(), "image_url": image_url}, interval=0.05))


def encode_image() -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "boat.png")
        path.write_bytes(PNG)
        return fal_client.encode_file(path)


async def run(client: Client, stage: Stage, say: Say) -> None:
    say("output", await client("run", TEXT, {"prompt": stage.prompt()}))


async def run_refused(client: Client, stage: Stage, say: Say) -> None:
    await client("run", TEXT, {"prompt": stage.prompt("[refuse]")})


async def run_failed(client: Client, stage: Stage, say: Say) -> None:
    await client("run", TEXT, {"prompt": stage.prompt("[downstream]")})


async def run_not_started(client: Client, stage: Stage, say: Say) -> None:
    await client("run", TEXT, {"prompt": stage.prompt("[never-starts]")}, start_timeout=2)


async def cancel_in_the_queue(client: Client, stage: Stage, say: Say) -> None:
    handle = await client("submit", TEXT, {"prompt": stage.prompt(HELD)})
    await asyncio.to_thread(stage.find)
    say("canceled", await client.call(handle.cancel))
    say("result", await _error(client.call(handle.get, interval=0.05)))
    say("completed", await client.call(handle.status))
    say("canceled again", await _error(client("cancel", TEXT, handle.request_id)))


async def cancel_at_once(client: Client, stage: Stage, say: Say) -> None:
    handle = await client("submit", TEXT, {"prompt": stage.prompt(HELD)})
    say("canceled", await client("cancel", TEXT, handle.request_id))
    say("result", await _error(client("result", TEXT, handle.request_id)))


async def cancel_while_it_runs(client: Client, stage: Stage, say: Say) -> None:
    handle = await client("submit", TEXT, {"prompt": stage.prompt(HELD)})
    await asyncio.to_thread(stage.move, "IN_PROGRESS")
    await _until(client, handle, fal_client.InProgress)
    say("canceled", await client.call(handle.cancel))
    say("result", await _error(client.call(handle.get, interval=0.05)))
    say("completed", await client.call(handle.status))


async def cancel_what_is_done(client: Client, stage: Stage, say: Say) -> None:
    handle = await client("submit", TEXT, {"prompt": stage.prompt()})
    await client.call(handle.get, interval=0.05)
    await client.call(handle.cancel)


async def client_timeout(client: Client, stage: Stage, say: Say) -> None:
    await client("subscribe", TEXT, {"prompt": stage.prompt("[quick] [hang]")}, client_timeout=2)


async def start_timeout(client: Client, stage: Stage, say: Say) -> None:
    await client("subscribe", TEXT, {"prompt": stage.prompt("[never-starts]")}, start_timeout=2, interval=0.05)


async def too_short_a_timeout(client: Client, stage: Stage, say: Say) -> None:
    await client("submit", TEXT, {"prompt": stage.prompt()}, start_timeout=1)


async def options(client: Client, stage: Stage, say: Say) -> None:
    """Compared as well: what of these headers reaches fal."""
    handle = await client(
        "submit",
        TEXT,
        {"prompt": stage.prompt()},
        hint="warm",
        priority="low",
        start_timeout=30,
        headers={"X-Fal-No-Retry": "1", "X-Fal-Tags": "film=boat", "X-Fal-Store-IO": "0", "X-End-User": "visitor"},
    )
    say("output", await client.call(handle.get, interval=0.05))
    found = await asyncio.to_thread(stage.find)
    headers = {name: value for name, value in found["headers"].items() if name.startswith("x-fal-")}
    for name in (name for name in headers if name.endswith("-timeout")):
        headers[name] = "up to 30" if 0 < float(headers[name]) <= 30 else headers[name]  # it counts from the submit
    say("reached fal", headers)


async def webhook_url(client: Client, stage: Stage, say: Say) -> None:
    hook = f"{os.environ['TEST_HOOK_URL']}/{stage.name.replace(' ', '-')}"
    handle = await client("submit", TEXT, {"prompt": stage.prompt()}, webhook_url=hook)
    say("output", await client.call(handle.get, interval=0.05))
    say("told", await _told(hook))


async def webhook_of_a_failure(client: Client, stage: Stage, say: Say) -> None:
    hook = f"{os.environ['TEST_HOOK_URL']}/{stage.name.replace(' ', '-')}"
    await client("submit", TEXT, {"prompt": stage.prompt("[refuse]")}, webhook_url=hook)
    say("told", await _told(hook))


async def _told(hook: str) -> Any:
    async with httpx.AsyncClient(trust_env=False, timeout=SECONDS) as http:
        return (await http.get(hook)).json()


def failing(words: str) -> Scenario:
    async def scenario(client: Client, stage: Stage, say: Say) -> None:
        handle = await client("submit", TEXT, {"prompt": stage.prompt(words)})
        say("result", await _error(client.call(handle.get, interval=0.05)))
        say("again", await _error(client.call(handle.get)))
        say("completed", await client.call(handle.status))

    return scenario


def invalid(**arguments: Any) -> Scenario:
    async def scenario(client: Client, stage: Stage, say: Say) -> None:
        await client("subscribe", TEXT, {"prompt": stage.prompt(), **arguments}, interval=0.05)

    return scenario


async def no_prompt(client: Client, stage: Stage, say: Say) -> None:
    await client("subscribe", TEXT, {}, interval=0.05)


async def unknown_endpoint(client: Client, stage: Stage, say: Say) -> None:
    await client("submit", "fal-ai/no-such-model", {"prompt": stage.prompt()})


async def unknown_id(client: Client, stage: Stage, say: Say) -> None:
    for name in ("status", "result", "cancel"):
        say(name, await _error(client(name, TEXT, "00000000-0000-0000-0000-000000000000")))


async def wrong_key(client: Client, stage: Stage, say: Say) -> None:
    stranger = client.with_key(os.environ["TEST_WRONG_KEY"])
    say("submit", await _error(client.call(stranger.submit, TEXT, {"prompt": stage.prompt()})))
    say("status", await _error(client.call(stranger.status, TEXT, "00000000-0000-0000-0000-000000000000")))


async def no_quota(client: Client, stage: Stage, say: Say) -> None:
    """Only the gateway has quotas, and freezes."""
    for key, told in (("TEST_POOR_KEY", ""), ("TEST_FROZEN_KEY", "frozen ")):
        refused = client.with_key(os.environ[key])
        for name in ("submit", "subscribe", "run"):
            say(told + name, await _error(client.call(getattr(refused, name), TEXT, {"prompt": stage.prompt(name)})))


async def cut_off(client: Client, stage: Stage, say: Say) -> None:
    """The first answer to this POST never arrives."""
    other = client.with_key(os.environ["TEST_CUT_KEY"])
    headers = {"x-test-cut": stage.name}
    handle = await client.call(other.submit, TEXT, {"prompt": stage.prompt()}, headers=headers)
    say("handle", handle)
    say("output", await client.call(handle.get, interval=0.05))


async def _error(call: Awaitable[Any]) -> Any:
    try:
        return {"returned": await call}
    except Exception as error:  # noqa: BLE001  whatever it is, it is what the caller sees
        return error


SCENARIOS: dict[str, Scenario] = {
    "subscribe": subscribe,
    "subscribe plainly": subscribe_plainly,
    "submit, status, result": submit_status_result,
    "iter_events": iter_events,
    "path apart": path_apart,
    "image": image,
    "run": run,
    "run refused": run_refused,
    "run failed": run_failed,
    "run not started": run_not_started,
    "cancel in the queue": cancel_in_the_queue,
    "cancel at once": cancel_at_once,
    "cancel while it runs": cancel_while_it_runs,
    "cancel what is done": cancel_what_is_done,
    "start_timeout": start_timeout,
    "too short a timeout": too_short_a_timeout,
    "options": options,
    "webhook_url": webhook_url,
    "webhook of a failure": webhook_of_a_failure,
    "refused": failing("[refuse]"),
    "no media": failing("[no-media]"),
    "bad request": failing("[400]"),
    "forbidden": failing("[403]"),
    "error": failing("[500]"),
    "downstream": failing("[downstream]"),
    "runner lost": failing("[runner-lost]"),
    "generation timeout": failing("[timeout]"),
    "no prompt": no_prompt,
    "invalid duration": invalid(duration="7"),
    "too long a prompt": invalid(negative_prompt="x" * 2501),
    "invalid share": invalid(cfg_scale=2),
    "unknown endpoint": unknown_endpoint,
    "unknown id": unknown_id,
    "wrong key": wrong_key,
}
AGAINST_THE_CLOCK = {"client_timeout": client_timeout}  # when the others are done, and nothing keeps it waiting
OF_THE_GATEWAY = {"no quota": no_quota, "cut off": cut_off}


def describe(value: Any) -> Any:
    """JSON of whatever the client gave: its type, and every field that a program can read."""
    if isinstance(value, fal_client.FalClientHTTPError):
        headers = {name: text for name, text in value.response_headers.items() if name.startswith("x-fal-")}
        return {
            "type": type(value).__name__,
            "message": value.message,
            "status_code": value.status_code,
            "error_type": value.error_type,
            "response_headers": headers,
            "json": value.response.json(),
        }
    if isinstance(value, Exception):
        return {"type": type(value).__name__, "text": str(value), **describe(vars(value))}
    if is_dataclass(value):
        shown = {field.name: describe(getattr(value, field.name)) for field in fields(value) if field.name != "client"}
        return {"type": type(value).__name__, **shown}
    if isinstance(value, dict):
        return {str(name): describe(each) for name, each in value.items()}
    if isinstance(value, list):
        return [describe(each) for each in value]
    return value


async def play(name: str, scenario: Scenario, client: Client, http: httpx.Client) -> dict[str, Any]:
    said: dict[str, Any] = {}
    stage = Stage(http, f"{name}{client.suffix}")
    try:
        async with asyncio.timeout(2 * SECONDS):
            await scenario(client, stage, lambda label, value: said.update({label: describe(value)}))
    except Exception as error:  # noqa: BLE001  it is what the caller sees
        said["raised"] = describe(error)
    return said


async def main() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * AT_ONCE))
    scenarios = SCENARIOS | (OF_THE_GATEWAY if "TEST_POOR_KEY" in os.environ else {})
    with httpx.Client(base_url=os.environ["TEST_FAL_URL"]) as http:
        played = await play_all(scenarios, http) | await play_all(AGAINST_THE_CLOCK, http)
    json.dump(played, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # a call that never ends has failed its scenario, and must not keep the process


async def play_all(scenarios: Mapping[str, Scenario], http: httpx.Client) -> dict[str, Any]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def play_in_turn(name: str, suffix: str) -> tuple[str, Any]:
        async with turns:
            return name + suffix, await play(name, scenarios[name], Client(suffix), http)

    return dict(await asyncio.gather(*(play_in_turn(name, suffix) for name in scenarios for suffix in ("", "_async"))))


if __name__ == "__main__":
    asyncio.run(main())
