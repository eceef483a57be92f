"""fal's own Python client takes the sandbox for fal (FAL.md 4.1)."""

from collections.abc import Iterator
from contextlib import contextmanager

import fal_client
import fal_client.client
import pytest
from fal_client import AsyncClient, SyncClient

from .receiving import is_genuine, run_receiver
from .running import TEXT, Sandbox

pytestmark = pytest.mark.usefixtures("_client_of_the_sandbox")


@pytest.fixture
def _client_of_the_sandbox(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{sandbox.url}/")


@contextmanager
def sync_client() -> Iterator[SyncClient]:
    client = SyncClient(key="test-id:test-secret")
    try:
        yield client
    finally:
        client._client.close()


def test_subscribe_brings_a_video(sandbox: Sandbox) -> None:
    sandbox.set_clock(speed=0)
    enqueued: list[str] = []
    updates: list[object] = []

    def note(update: object) -> None:
        updates.append(update)
        sandbox.set_clock(advance=2)

    with sync_client() as client:
        output = client.subscribe(
            TEXT,
            {"prompt": "a cat"},
            with_logs=True,
            interval=0.01,
            on_enqueue=enqueued.append,
            on_queue_update=note,
        )
    assert output["video"]["url"].endswith(f"/files/{enqueued[0]}/16x9-5s.mp4")
    kinds = [type(update) for update in updates]
    assert kinds == [fal_client.Queued, fal_client.InProgress, fal_client.Completed]
    running = [update.logs for update in updates if isinstance(update, fal_client.InProgress)]
    assert next(entries[0]["message"] for entries in running if entries) == "Rendering: 0%"


async def test_subscribe_brings_a_video_to_the_async_client_too(sandbox: Sandbox) -> None:
    updates: list[object] = []
    client = AsyncClient(key="test-id:test-secret")
    try:
        output = await client.subscribe(
            TEXT,
            {"prompt": "a cat", "duration": "10"},
            with_logs=True,
            interval=0.01,
            on_queue_update=updates.append,
        )
    finally:
        await (await client._client).aclose()
    assert sandbox.http.get(output["video"]["url"]).headers["content-type"] == "video/mp4"
    assert isinstance(updates[-1], fal_client.Completed)
    assert updates[-1].logs
    assert len(sandbox.requests()) == 1


def test_submit_status_result_by_id() -> None:
    with sync_client() as client:
        handle = client.submit(TEXT, {"prompt": "a cat"}, start_timeout=30)
        client.status(TEXT, handle.request_id, with_logs=True)
        output = client.result(TEXT, handle.request_id)
        assert handle.get() == output
        done = handle.status()
    assert isinstance(done, fal_client.Completed)
    assert done.metrics["inference_time"] > 0


def test_cancel_ends_a_job(sandbox: Sandbox) -> None:
    with sync_client() as client:
        handle = client.submit(TEXT, {"prompt": "[never-starts]"})
        client.cancel(TEXT, handle.request_id)
        with pytest.raises(fal_client.FalClientHTTPError) as caught:
            handle.get()
    assert (caught.value.status_code, caught.value.error_type) == (499, "client_cancelled")
    assert sandbox.requests()[0]["calls"]["cancel"] == 1


def test_a_refused_job_raises_its_detail() -> None:
    with sync_client() as client, pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.subscribe(TEXT, {"prompt": "[refuse]"}, interval=0.01)
    assert caught.value.status_code == 422
    assert caught.value.response.json()["detail"][0]["type"] == "content_policy_violation"


def test_an_unstarted_job_raises_once(sandbox: Sandbox) -> None:
    with sync_client() as client, pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.subscribe(TEXT, {"prompt": "[never-starts]"}, interval=0.01, start_timeout=2)
    assert (caught.value.status_code, caught.value.error_type) == (504, "request_timeout")
    assert sandbox.requests()[0]["calls"]["result"] == 1


@pytest.mark.parametrize(("word", "code"), [("refuse-at-submit", 422), ("locked", 403), ("unknown-key", 401)])
def test_a_refused_submit_raises_at_once(sandbox: Sandbox, word: str, code: int) -> None:
    with sync_client() as client, pytest.raises(fal_client.FalClientHTTPError) as caught:
        client.submit(TEXT, {"prompt": f"[{word}]"})
    assert caught.value.status_code == code
    assert sandbox.http.get("/_sandbox/state").json()["calls"] == {"submit": 1}


def test_the_client_repeats_a_lost_submit_and_so_pays_twice(sandbox: Sandbox) -> None:
    sandbox.set_fault(call="submit", fault="close", accepted=True, times=1)
    with sync_client() as client:
        client.submit(TEXT, {"prompt": "a cat"})
    assert len(sandbox.requests()) == 2


def test_its_webhook_url_is_told(sandbox: Sandbox) -> None:
    with run_receiver() as receiver, sync_client() as client:
        handle = client.submit(TEXT, {"prompt": "a cat"}, webhook_url=receiver.url)
        (told,) = receiver.wait()
        assert told.request_id == handle.request_id
        assert told.content["payload"] == handle.get()
        assert is_genuine(sandbox.http.get("/.well-known/jwks.json").json(), told.headers, told.raw)
