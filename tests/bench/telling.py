"""From fal's webhook to the caller: its event stream, and the first try of its delivery."""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import httpx
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.embedded import EmbeddedPostgres
from tests.bench.speed import environment
from tests.bench.stage import Figure, free_port, run, seed, serve

CALLERS: Final = 4
JOBS_EACH: Final = 80
GOAL_SECONDS: Final = 0.1
SUBMIT: Final = {"prompt": "a paper boat crosses a puddle"}


class Outside:
    """A fal that ends a request when it is told to, and a caller's receiver; both on one port of this process."""

    def __init__(self) -> None:
        self.port = free_port()
        self.delivered: dict[str, asyncio.Future[float]] = {}
        self._key = Ed25519PrivateKey.generate()
        self._webhooks: dict[str, str] = {}
        self._ended: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        answer = json.dumps(self._answer(scope, body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _answer(self, scope: Any, body: bytes) -> dict[str, Any]:
        path = scope["path"]
        if path == "/hook":
            self.delivered[json.loads(body)["data"]["id"]].set_result(time.perf_counter())
            return {}
        if path == "/.well-known/jwks.json":
            x = base64.urlsafe_b64encode(self._key.public_key().public_bytes_raw()).rstrip(b"=").decode()
            return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}
        if scope["method"] == "POST":
            request_id = str(uuid4())
            self._webhooks[request_id] = httpx.QueryParams(scope["query_string"]).get("fal_webhook", "")
            base = f"{self.url}/fal-ai/kling-video/requests/{request_id}"
            urls = {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}
            return {"request_id": request_id, "status": "IN_QUEUE", "queue_position": 0} | urls
        request_id = path.split("/requests/")[1].split("/")[0]
        if path.endswith("/status"):
            status = "COMPLETED" if request_id in self._ended else "IN_PROGRESS"
            return {"status": status, "request_id": request_id, "logs": None}
        return {"video": {"url": "https://v3.fal.media/files/boat.mp4"}}

    async def end(self, client: httpx.AsyncClient, request_id: str) -> float:
        """The request has ended: send its webhook; returns when."""
        self._ended.add(request_id)
        news = {"request_id": request_id, "gateway_request_id": request_id, "status": "OK", "payload": {}}
        body = json.dumps(news).encode()
        moment = str(int(time.time()))
        signed = [request_id, "bench-user", moment, hashlib.sha256(body).hexdigest()]
        headers = {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": "bench-user",
            "X-Fal-Webhook-Timestamp": moment,
            "X-Fal-Webhook-Signature": self._key.sign("\n".join(signed).encode()).hex(),
            "Content-Type": "application/json",
        }
        begun = time.perf_counter()
        answer = await client.post(self._webhooks[request_id], content=body, headers=headers)
        answer.raise_for_status()
        return begun


@asynccontextmanager
async def _standing(outside: Outside) -> Any:
    server = uvicorn.Server(uvicorn.Config(outside, port=outside.port, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if serving.done():
            await serving
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def measure_telling(postgres: EmbeddedPostgres, rounds: int) -> list[Figure]:  # noqa: ARG001  each job is a sample
    """Four callers, each with one job at a time: from the webhook's first byte to what the caller is told."""
    keys: list[str] = run(seed(postgres.dsn()))  # type: ignore[assignment]
    outside, port = Outside(), free_port()
    settings = environment(postgres.dsn(), outside.url) | {
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "SECRET_KEY": "a-secret-key-of-the-bench-00000001",
        "WEBHOOK_ALLOW_PRIVATE": "true",
        "POLL_SECONDS": "300",
    }

    async def measure() -> tuple[list[float], list[float]]:
        async with _standing(outside):
            loop = asyncio.get_running_loop()

            def work() -> tuple[list[float], list[float]]:
                with serve("tests.bench.gateway:make()", settings, ready="/health/ready", port=port):
                    return asyncio.run_coroutine_threadsafe(_call(outside, port, keys), loop).result()

            return await asyncio.to_thread(work)

    told: tuple[list[float], list[float]] = run(measure())  # type: ignore[assignment]
    note = f"{len(told[0])} jobs, {CALLERS} at a time"
    return [
        _figure("from fal's webhook to the caller's event stream, p99", told[0], note),
        _figure("from fal's webhook to the first try of the delivery, p99", told[1], note),
    ]


def _figure(what: str, seconds: list[float], note: str) -> Figure:
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    median = ordered[len(ordered) // 2]
    note = f"{note}, median {median * 1000:.0f} ms"
    return Figure(what, [p99], GOAL_SECONDS, unit=" s", at_least=False, note=note)


async def _call(outside: Outside, port: int, keys: list[str]) -> tuple[list[float], list[float]]:
    streamed: list[float] = []
    delivered: list[float] = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
        await _one_job(outside, client, port, keys[0], lambda *_: None)  # the first learns fal's account and keys

        async def caller(key: str) -> None:
            def keep(stream: float, delivery: float) -> None:
                streamed.append(stream)
                delivered.append(delivery)

            for _ in range(JOBS_EACH):
                await _one_job(outside, client, port, key, keep)

        await asyncio.gather(*(caller(key) for key in keys[:CALLERS]))
    return streamed, delivered


async def _one_job(
    outside: Outside, client: httpx.AsyncClient, port: int, key: str, keep: Callable[[float, float], None]
) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    asked = SUBMIT | {"webhook_url": f"{outside.url}/hook"}
    made = (await client.post("/v1/text-to-video", json=asked, headers=headers)).raise_for_status().json()
    outside.delivered[made["id"]] = asyncio.get_running_loop().create_future()
    at_fal: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def end() -> float:
        return await outside.end(client, await at_fal)

    begun, ended, delivered = await asyncio.gather(
        end(), _follow(port, key, made["id"], at_fal), _within(outside.delivered[made["id"]])
    )
    keep(ended - begun, delivered - begun)


async def _within(waited: Awaitable[float]) -> float:
    return await asyncio.wait_for(waited, 60)


async def _follow(port: int, key: str, job_id: str, at_fal: asyncio.Future[str]) -> float:
    """Read the job's events; returns when its end was told."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    )
    try:
        async with asyncio.timeout(60):
            while True:
                line = await reader.readline()
                if not line:
                    raise ConnectionError("the stream ended before the job did")
                if not line.startswith(b"data:"):
                    continue
                now, job = time.perf_counter(), json.loads(line.removeprefix(b"data:"))
                if job["status"] in {"submitted", "running"} and not at_fal.done():
                    at_fal.set_result(job["fal_request_id"])
                if job["finished_at"] is not None:
                    return now
    finally:
        writer.close()
