"""The sandbox's storage: JavaScript's two steps and Python's, open to pages, bounded."""

from collections.abc import Iterator

import fal_client
import fal_client.client
import httpx
import pytest

from app.sandbox import uploads
from app.sandbox.faults import STORAGE_CALLS
from app.sandbox.uploads import Uploads

from .running import IMAGE, Sandbox

INITIATE = "/storage/upload/initiate?storage_type=fal-cdn-v3"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (200).to_bytes(4) + (400).to_bytes(4) + b"\x08\x02\0\0\0"


@pytest.fixture(autouse=True)
def _sweep(sandbox: Sandbox) -> Iterator[None]:
    yield
    sandbox.http.delete("/_sandbox/files")


@pytest.fixture
def page() -> Iterator[httpx.Client]:
    """Somebody without a key, on another origin."""
    with httpx.Client(trust_env=False, headers={"Origin": "https://studio.example.com"}) as client:
        yield client


def initiate(sandbox: Sandbox, name: str = "a cat.png") -> dict[str, str]:
    answer = sandbox.http.post(INITIATE, json={"content_type": "image/png", "file_name": name})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_what_is_put_where_it_says_is_read_where_it_says(sandbox: Sandbox, page: httpx.Client) -> None:
    room = initiate(sandbox)
    assert room.keys() == {"upload_url", "file_url"}
    assert page.get(room["file_url"]).status_code == 404
    assert page.put(room["upload_url"], content=PNG, headers={"Content-Type": "image/png"}).status_code == 200
    read = page.get(room["file_url"])
    assert (read.content, read.headers["content-type"]) == (PNG, "image/png")
    assert page.head(room["file_url"]).status_code == 200
    assert room["upload_url"].rpartition("/")[0] not in room["file_url"]
    (kept,) = sandbox.http.get("/_sandbox/files").json()["files"]
    assert (kept["name"], kept["size_bytes"], kept["put_with_key"]) == ("a cat.png", len(PNG), False)
    assert page.put(room["upload_url"], content=b"other").status_code == 403
    assert page.put(room["file_url"], content=b"other").status_code == 404
    assert page.get(room["file_url"]).content == PNG


def test_only_a_key_initiates(sandbox: Sandbox, page: httpx.Client) -> None:
    body = {"content_type": "image/png", "file_name": "cat.png"}
    assert page.post(sandbox.url + INITIATE, json=body).status_code == 401
    for key, status in (("sandbox-unknown", 401), ("sandbox-locked", 403)):
        refused = sandbox.http.post(INITIATE, json=body, headers={"Authorization": f"Key {key}:x"})
        assert refused.status_code == status
    assert sandbox.http.post(INITIATE, content=b"{").status_code == 400
    odds: list[object] = [{}, [], {"content_type": "image/png"}, {"content_type": 1, "file_name": "x"}]
    for odd in odds:
        assert sandbox.http.post(INITIATE, json=odd).status_code == 422
    assert sandbox.http.post("/storage/upload/initiate-multipart", json=body).status_code == 404
    assert sandbox.http.get("/_sandbox/files").json() == {"files": []}


def test_pages_of_any_origin_may_put_and_read(sandbox: Sandbox, page: httpx.Client) -> None:
    room = initiate(sandbox)
    asks = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type"}
    allowed = page.options(room["upload_url"], headers=asks)
    assert allowed.status_code == 204
    assert "PUT" in allowed.headers["access-control-allow-methods"]
    assert "*" in allowed.headers["access-control-allow-headers"]
    answers = [allowed, page.put(room["upload_url"], content=PNG), page.get(room["file_url"])]
    answers += [page.post(sandbox.url + INITIATE), page.get(f"{sandbox.url}/storage/nothing")]
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {"*"}


async def test_the_official_client_of_python_uploads_with_two_lines(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fal_client.client, "REST_URL", sandbox.url)
    monkeypatch.setattr(fal_client.client, "CDN_URL", sandbox.url)
    client = fal_client.AsyncClient(key="test-id:test-secret")  # the other one leaves a connection open
    try:
        url = await client.upload(PNG, "image/png", file_name="cat.png")
    finally:
        await (await client._client).aclose()
    assert sandbox.http.get(url).content == PNG
    refused = sandbox.http.post("/files/upload", content=PNG, headers={"Authorization": "Bearer made-up"})
    assert refused.status_code == 401


def test_a_job_takes_its_shape_from_an_uploaded_image(sandbox: Sandbox, page: httpx.Client) -> None:
    room = initiate(sandbox)
    page.put(room["upload_url"], content=PNG)
    request_id = sandbox.start("a cat", endpoint=IMAGE, image_url=room["file_url"])
    sandbox.wait(request_id)
    assert "9x16" in sandbox.call(request_id).json()["video"]["url"]


@pytest.mark.parametrize("call", STORAGE_CALLS)
def test_both_steps_can_be_made_to_fail(call: str, sandbox: Sandbox, page: httpx.Client) -> None:
    room = initiate(sandbox)
    for fault, status in (("401", 401), ("403-locked", 403), ("500", 500), ("502-html", 502), ("slow", 200)):
        sandbox.set_fault(call=call, fault=fault, times=1, seconds=0.01)
        if call == "initiate":
            answer = sandbox.http.post(INITIATE, json={"content_type": "image/png", "file_name": "x"})
        else:
            answer = page.put(room["upload_url"], content=PNG)
        assert answer.status_code == status
    assert sandbox.http.get("/_sandbox/state").json()["calls"][call] >= 5


def test_the_oldest_files_are_let_go_of_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MOST_FILES", 3)
    monkeypatch.setattr(uploads, "MOST_BYTES", 100)
    kept = Uploads()
    made = [kept.make_room(name=str(n), content_type="image/png", key_fingerprint="x") for n in range(5)]
    assert [file.name for file in kept] == ["2", "3", "4"]
    assert kept.find_room(made[0].ticket) is None
    for file in made[2:]:
        kept.fill(file, b"x" * 40)
    assert [file.name for file in kept] == ["3", "4"]
    assert kept.find(made[2].file_id) is None
