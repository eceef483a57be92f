"""The headers that say how little a browser may do with an answer; and pages that still work under them."""

import re

import httpx
import pytest

from tests.gateway import Gateway, Person

from .world import TEXT, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")


def of(answer: httpx.Response) -> dict[str, str]:
    for name in ("x-content-type-options", "referrer-policy", "x-frame-options", "cache-control"):
        assert len(answer.headers.get_list(name)) <= 1, name
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "server" not in answer.headers or answer.headers["server"] == "uvicorn"
    return dict(answer.headers)


async def test_data_opens_nothing_and_is_kept_nowhere(gateway: Gateway, ann: Person) -> None:
    job = (await gateway.submit(ann)).json()
    for answer in [
        await gateway.submit(ann),
        await gateway.submit(ann, prompt=""),
        await gateway.client.get(f"/v1/jobs/{job['id']}", headers=ann.headers),
        await gateway.client.get("/v1/me"),
        await gateway.client.get("/v1/models", headers=ann.headers),
        await gateway.client.get("/openapi.json"),
        await gateway.client.get("/health/live"),
        await gateway.client.get("/nonsense"),
        await gateway.client.get("/problems/nonsense"),
        await gateway.client.put(TEXT),
        await gateway.client.post(TEXT, content=b"x" * 3_000_000, headers=ann.headers),
    ]:
        headers = of(answer)
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


async def test_pages_have_a_policy_that_lets_in_nothing_from_elsewhere(gateway: Gateway) -> None:
    for path in ("/docs", "/problems", "/problems/not-found"):
        answer = await gateway.client.get(path)
        policy = of(answer)["content-security-policy"]
        sources = dict(part.strip().split(" ", 1) for part in policy.split(";"))
        assert sources["default-src"] == sources["frame-ancestors"] == sources["base-uri"] == "'none'"
        assert "unsafe" not in sources["script-src"]
        assert len(re.findall("sha256-", policy)) == answer.text.count("<script>") == (path == "/docs")
        assert not re.search(r"https?:|\*", policy)
    asset = await gateway.client.get("/docs/assets/swagger-ui-bundle.js")
    assert "cache-control" not in of(asset)
    assert asset.headers["etag"]


@pytest.mark.parametrize("kind", [RuntimeError, BaseExceptionGroup, ExceptionGroup, RecursionError, UnicodeDecodeError])
async def test_no_exception_tells_anything_in_its_answer(
    kind: type[BaseException], gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OddError(RuntimeError):
        def __str__(self) -> str:
            raise ValueError("planted")

    made: BaseException
    match kind.__name__:
        case "BaseExceptionGroup":
            made = BaseExceptionGroup("planted", [GeneratorExit("planted"), OddError()])
        case "ExceptionGroup":
            made = ExceptionGroup("planted", [OddError()])
        case "UnicodeDecodeError":
            made = UnicodeDecodeError("utf-8", b"planted", 0, 1, "planted")
        case _:
            made = kind("planted")

    async def breaks(_: object) -> None:
        raise made

    monkeypatch.setattr(gateway.app.state.rooms.submits, "submit", breaks)
    answer = await gateway.submit(ann)
    refusal(answer, 500, "internal")
    of(answer)
    for word in ("planted", "Traceback", "File ", ".py", "Error"):
        assert word not in answer.text
