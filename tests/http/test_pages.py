"""Health, metrics, /docs, the problems' pages, and what every answer carries."""

import asyncio
import inspect
import logging
import re
from html.parser import HTMLParser

import httpx
import pytest

from app.embedded import EmbeddedPostgres
from app.problems import Problem, all_problems
from tests.conftest import settings_for
from tests.gateway import ADMIN, Gateway, Person, run_gateway

from .conftest import fresh_database
from .world import TEXT, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")

REFUSALS = {  # the Contract's table
    "key-unknown": 401, "too-many-in-flight": 429, "too-many-jobs": 429, "quota-exceeded": 402, "role-forbidden": 403,
    "not-found": 404, "job-ended": 409, "name-taken": 409, "body-too-large": 413, "not-json": 415,
    "invalid-input": 422, "idempotency-key-reused": 422, "model-unpriced": 422, "unavailable": 503,
}  # fmt: skip


class Links(HTMLParser):
    """Every URL that a page asks for or leads to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.found += [value for name, value in attrs if name in {"href", "src", "action"} and value]


async def test_live_and_ready_ask_for_no_key(gateway: Gateway) -> None:
    for path, body in (("/health/live", {"status": "live"}), ("/health/ready", {"status": "ready"})):
        answer = await gateway.client.get(path)
        assert (answer.status_code, answer.json()) == (200, body)


async def test_monitors_may_send_head(gateway: Gateway) -> None:
    for path in ("/health/live", "/health/ready"):
        answer = await gateway.client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
    paths = (await gateway.client.get("/openapi.json")).json()["paths"]
    assert set(paths["/health/live"]) == set(paths["/health/ready"]) == {"get"}


async def test_what_the_edge_refuses_is_described_too(gateway: Gateway) -> None:
    paths = (await gateway.client.get("/openapi.json")).json()["paths"]
    ours = [path for name, path in paths.items() if not name.startswith("/fal/")]  # there they have other codes
    described = [set(operation["responses"]) for path in ours for operation in path.values()]
    assert all("429" in answers for answers in described if "401" in answers)
    assert all("408" in answers for answers in described if "413" in answers)


async def test_ids_in_paths_are_called_id(gateway: Gateway) -> None:
    """As the Contract writes them; clients are made from these names. An endpoint's is fal's own, a month is a date."""
    paths = (await gateway.client.get("/openapi.json")).json()["paths"]
    assert {name for path in paths for name in re.findall(r"{(.*?)}", path)} == {"id", "endpoint", "month"}
    for path, operations in paths.items():
        for operation in operations.values():
            named = {entry["name"] for entry in operation.get("parameters", []) if entry["in"] == "path"}
            assert named == set(re.findall(r"{(.*?)}", path)), path


async def test_metrics_are_prometheus_text(gateway: Gateway, ann: Person) -> None:
    await gateway.submit(ann, tags={"secret": "tag"}, end_user="somebody")
    await gateway.set_quota(0, scope="user", scope_id=ann.user_id)
    await gateway.submit(ann)
    answer = await gateway.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    for line in answer.text.splitlines():
        assert line.startswith("# ") or re.fullmatch(r'[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? \S+', line), (
            line
        )
    figures = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert float(figures['falgate_jobs{status="queued"}']) >= 1
    assert float(figures["falgate_held_usd"]) >= 1.4
    assert float(figures['falgate_refusals_total{code="quota-exceeded"}']) >= 1
    for private in (ann.user_id, ann.team_id, ann.key_id, "somebody", "a boat"):
        assert private not in answer.text


async def test_metrics_ask_for_their_key_when_it_is_set(postgres: EmbeddedPostgres, template: str) -> None:
    settings = settings_for(fresh_database(postgres, template), METRICS_KEY="metrics-key")
    async with run_gateway(settings, work=False) as gateway:
        ann = await gateway.make_person("admin")
        for scheme in ("Bearer", "bearer"):
            headers = {"Authorization": f"{scheme} metrics-key"}
            assert (await gateway.client.get("/metrics", headers=headers)).status_code == 200
        right = ("Authorization", "Bearer metrics-key")
        for wrong in ({}, ADMIN, ann.headers, {"Authorization": "metrics-key-not"}, {"Authorization": "Bearer"},
                      {"Authorization": "Bearer metrics-kez"}, {"Authorization": "Basic metrics-key"},
                      {"Authorization": "metrics-key"}, {"Authorization": "Key metrics-key"},
                      [right, right]):  # fmt: skip
            answer = await gateway.client.get("/metrics", headers=wrong)
            problem = refusal(answer, 401, "key-unknown")
            assert "METRICS_KEY" in problem["detail"]
            assert "fg_" not in problem["detail"]
            assert answer.headers["www-authenticate"] == "Bearer"


async def test_every_refusal_of_the_contract_has_its_code_and_status() -> None:
    known = all_problems()
    assert {code: known[code].status for code in REFUSALS} == REFUSALS


async def test_every_problem_says_what_happened_and_what_to_do() -> None:
    known = all_problems()
    assert len(known) == len(_below(Problem)), "two problems share a code"
    for code, kind in known.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
        assert kind.title[0].isupper()
        assert 400 <= kind.status < 600
        page = inspect.cleandoc(kind.__doc__ or "")
        assert kind.__doc__ != (kind.__base__.__doc__ if kind.__base__ else None), code
        assert len(page) > 40, code
        sentences = re.split(r"(?<=[.;:])\s", page.replace("\n", " "))
        assert len(sentences) > 1, f"{code} says what happened but not what to do"


def _below(kind: type[Problem]) -> set[type[Problem]]:
    return {below for child in kind.__subclasses__() for below in {child, *_below(child)}}


async def test_every_problem_has_its_page_at_its_type(gateway: Gateway) -> None:
    index = (await gateway.client.get("/problems")).text
    for code, kind in all_problems().items():
        answer = await gateway.client.get(f"/problems/{code}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert kind.title in answer.text
        assert f"HTTP {kind.status}" in answer.text
        assert f'href="/problems/{code}"' in index
    refusal(await gateway.client.get("/problems/nonsense"), 404, "not-found")


async def test_the_type_of_a_problem_can_be_opened(gateway: Gateway) -> None:
    problem = refusal(await gateway.client.get("/v1/jobs"), 401, "key-unknown")
    assert problem["type"] == f"{gateway.url}/problems/key-unknown"
    assert (await gateway.client.get(problem["type"])).status_code == 200


async def test_public_url_is_where_a_problem_is_explained(postgres: EmbeddedPostgres, template: str) -> None:
    settings = settings_for(fresh_database(postgres, template), PUBLIC_URL="https://videos.example.com/")
    async with run_gateway(settings, work=False) as gateway:
        problem = (await gateway.client.get("/v1/jobs", headers={"Host": "evil.example"})).json()
        assert problem["type"] == "https://videos.example.com/problems/key-unknown"


async def test_no_page_asks_another_host(gateway: Gateway) -> None:
    docs = (await gateway.client.get("/docs")).text
    pages = [docs, (await gateway.client.get("/problems")).text, (await gateway.client.get("/problems/not-found")).text]
    for page in pages:
        assert not re.search(r"(https?:)?//[a-z]", page.replace("<!--", "")), page[:300]
        for link in Links(page).found:
            assert link.startswith("/")
            assert (await gateway.client.get(link)).status_code == 200, link
    assert '"validatorUrl": null' in docs, "Swagger UI would ask validator.swagger.io"
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        answer = await gateway.client.get(f"/docs/assets/{asset}")
        assert answer.status_code == 200
        assert len(answer.content) > 100


async def test_the_root_leads_to_the_docs(gateway: Gateway) -> None:
    answer = await gateway.client.get("/")
    assert answer.is_redirect
    assert answer.headers["location"] == "/docs"


async def test_openapi_names_every_route_once(gateway: Gateway) -> None:
    document = (await gateway.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    for operation in operations:
        assert operation.get("summary")
        assert operation["tags"]
        body = operation.get("requestBody")
        assert body is None or body["required"], "JsonRoute counts on it"
    text = str(document)
    assert "HTTPValidationError" not in text
    known = set(document["components"]["schemas"])
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) <= known


async def test_every_answer_carries_its_own_request_id(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(_: object) -> None:
        raise RuntimeError("planted")

    job = (await gateway.submit(ann)).json()
    answers: list[tuple[int, httpx.Response]] = [
        (200, await gateway.client.get(f"/v1/jobs/{job['id']}", headers=ann.headers)),
        (202, await gateway.submit(ann)),
        (200, await gateway.client.get("/docs")),
        (200, await gateway.client.get("/docs/assets/favicon.png")),
        (200, await gateway.client.get("/openapi.json")),
        (307, await gateway.client.get("/")),
        (401, await gateway.client.get("/v1/me")),
        (404, await gateway.client.get("/nonsense")),
        (404, await gateway.client.get("/docs/assets/nonsense")),
        (405, await gateway.client.put(TEXT)),
        (413, await gateway.client.post(TEXT, content=b'"' + b"x" * 3_000_000, headers=_json(ann))),
        (415, await gateway.client.post(TEXT, content=b"x", headers=ann.headers)),
        (422, await gateway.client.post(TEXT, content=b"{}", headers=_json(ann))),
    ]
    monkeypatch.setattr(gateway.app.state.rooms.reader, "read", breaks)
    answers.append((500, await gateway.client.get(f"/v1/jobs/{job['id']}", headers=ann.headers)))
    assert [answer.status_code for _, answer in answers] == [status for status, _ in answers]
    ids = [answer.headers["x-request-id"] for _, answer in answers]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"req_[0-9a-f]{24}", request_id) for request_id in ids)
    for status, answer in answers:
        if status >= 400:
            assert answer.json()["request_id"] == answer.headers["x-request-id"]


def _json(person: Person) -> dict[str, str]:
    return person.headers | {"Content-Type": "application/json"}


async def test_a_fault_of_our_own_is_logged_under_its_id_and_tells_nothing(
    gateway: Gateway, ann: Person, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(gateway.app.state.rooms.submits, "submit", breaks)
    answer = await gateway.submit(ann)
    problem = refusal(answer, 500, "internal")
    assert "planted" not in answer.text
    assert "planted" in caplog.text
    assert problem["title"] == "Internal fault"


@pytest.mark.parametrize("path", [TEXT, "/v1/teams"])
async def test_who_hangs_up_in_the_middle_of_a_body_is_no_fault(
    path: str, gateway: Gateway, ann: Person, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="falgate")
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {ann.headers['Authorization']}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    await writer.wait_closed()
    for _ in range(500):
        if "hung up" in caplog.text:
            break
        await asyncio.sleep(0.01)
    assert "hung up" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_path_that_has_other_methods_names_them_all(gateway: Gateway, ann: Person) -> None:
    for method, path, allowed in (
        ("PUT", TEXT, "POST"), ("GET", TEXT, "POST"), ("OPTIONS", TEXT, "POST"), ("HEAD", "/v1/jobs", "GET"),
        ("POST", "/v1/jobs/x", "GET"), ("PATCH", "/v1/prices", "GET, POST"), ("GET", "/v1/quotas/x", "PATCH, DELETE"),
        ("DELETE", "/v1/teams", "GET, POST"), ("TRACE", "/v1/me", "GET"),
        ("POST", "/docs/assets/favicon.png", "GET, HEAD"),
        ("PROPFIND", "/v1/keys", "GET, POST"), ("DELETE", "/health/live", "GET, HEAD"),
        ("PUT", "/problems/not-found", "GET"),
    ):  # fmt: skip
        answer = await gateway.client.request(method, path, headers=ann.headers)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed), (method, path)
        if method != "HEAD":
            refusal(answer, 405, "method-not-allowed")


async def test_a_path_that_is_none_is_not_there(gateway: Gateway, ann: Person) -> None:
    for path in ("/nonsense", "/v1", "/v1/", "/v1/jobs/", f"{TEXT}/", "/v2/jobs", "/v1/jobs/a%2fb", "/V1/JOBS",
                 "//v1/jobs", "/docs/assets/..%2f..%2fproblems.py", "/docs/assets/%2e%2e/%2e%2e/x", "/x" * 5000,
                 "/%00", "/%ff"):  # fmt: skip
        refusal(await gateway.client.get(path, headers=ann.headers), 404, "not-found")
