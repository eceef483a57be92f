"""What tests of the contract ask again and again: is it a clear refusal, was anything written, is it a Job."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jsonschema_rs

from tests.gateway import Gateway

TEXT = "/v1/text-to-video"
IMAGE = "/v1/image-to-video"
TEXT_ENDPOINT = "fal-ai/kling-video/v2.1/master/text-to-video"
IMAGE_ENDPOINT = "fal-ai/kling-video/v2.1/master/image-to-video"
NOBODYS = "0" * 32
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


def refusal(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem in an answer that must be this refusal, with everything that every problem has."""
    assert answer.status_code == status, (answer.status_code, answer.text[:500])
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["code"] == code, problem
    assert problem["status"] == status
    assert problem["type"].endswith(f"/problems/{code}")
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["title"]
    assert problem["detail"].endswith((".", "`"))
    return problem


def faults(answer: httpx.Response) -> dict[str, str]:
    """Where each fault of a 422 is → what is wrong there."""
    problem = refusal(answer, 422, "invalid-input")
    found = {}
    for fault in problem["errors"]:
        (where,) = fault.keys() - {"detail"}
        assert where in {"pointer", "parameter", "header"}
        assert fault["detail"]
        found[fault[where]] = fault["detail"]
    assert found
    return found


async def count_rows(gateway: Gateway) -> dict[str, int]:
    """How many rows each table has, but for the counts of refusals."""
    async with gateway.wiring.db.plain() as plain:
        tables = await plain.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'refusals' ORDER BY 1"
        )
        names = [row["tablename"] for row in tables]
        counts = ", ".join(f'(SELECT count(*) FROM "{name}")' for name in names)  # noqa: S608
        return dict(zip(names, await plain.fetchrow(f"SELECT {counts}") or [], strict=True))


async def sum_held(gateway: Gateway) -> list[Any]:
    """All that every quota's windows count."""
    async with gateway.wiring.db.plain() as plain:
        return [tuple(row) for row in await plain.fetch("SELECT id, used, held FROM quota_usage ORDER BY id")]


@asynccontextmanager
async def nothing_written(gateway: Gateway) -> AsyncIterator[None]:
    """No row of any table comes or goes meanwhile, and nothing is held."""
    before = await count_rows(gateway), await sum_held(gateway)
    yield
    assert (await count_rows(gateway), await sum_held(gateway)) == before


async def find_in_rows(gateway: Gateway, needle: str) -> list[str]:
    """The tables that hold this text in any column of any row."""
    found = []
    async with gateway.wiring.db.plain() as plain:
        tables = await plain.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (name,) in tables:
            statement = f'SELECT count(*) FROM "{name}" t WHERE strpos(t::text, $1) > 0'  # noqa: S608
            if await plain.fetchval(statement, needle):
                found.append(name)
    return found


async def schema_of(gateway: Gateway, name: str) -> jsonschema_rs.Validator:
    """The validator of a schema of `/openapi.json`; formats are checked, unknown members are not allowed."""
    document = (await gateway.client.get("/openapi.json")).json()
    for schema in document["components"]["schemas"].values():
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)
    root = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    return jsonschema_rs.validator_for(root, validate_formats=True)


def call_headers(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    """Headers among which one may stand twice."""
    return [("content-type", "application/json"), *pairs]
