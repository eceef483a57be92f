"""Serving another endpoint of fal is one new file in `app/catalogue/endpoints/`, and no other change."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.catalogue import endpoints
from app.catalogue.registry import load_catalogue
from app.cli.migrate import migrate
from app.db import Database
from app.embedded import EmbeddedPostgres
from app.settings import Settings
from tests.gateway import run_gateway
from tests.sandbox.running import Sandbox

from .conftest import fresh_database, working_settings
from .world import TEXT, TEXT_ENDPOINT, faults

FILE = '''
"""A model to come, whose price hangs on one of its inputs."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from app.catalogue.endpoint import Endpoint, Input, PriceSeed
from app.catalogue.fields import NO_NUL


class NextTextRequest(Input):
    """Its own fields."""

    prompt: Annotated[str, Field(min_length=1, max_length=100), NO_NUL]
    seconds: Annotated[int, Field(ge=3, le=15)] = 8
    generate_audio: bool = True
    resolution: Literal["720p", "1080p"] = "720p"


def _price(usd_per_second: str, **when: bool) -> PriceSeed:
    zero = Decimal(0)
    return PriceSeed(base_seconds=zero, base_usd=zero, usd_per_second=Decimal(usd_per_second), when=when)


ENDPOINT = Endpoint(
    id="fal-ai/next/v1/text-to-video",
    model="next-1",
    category="text-to-video",
    input=NextTextRequest,
    seconds=lambda given: Decimal(given.seconds),
    prices=(
        _price("0.4", generate_audio=True),
        _price("0.2", generate_audio=False),
    ),
    example={"prompt": "Rain on a tin roof"},
)
'''


@pytest.fixture
def third_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "next_1.py").write_text(FILE)
    monkeypatch.setattr(endpoints, "__path__", [*endpoints.__path__, str(tmp_path)])
    yield
    sys.modules.pop("app.catalogue.endpoints.next_1", None)


async def seed(db: Database, settings: Settings) -> list[str]:
    """Migrate; the endpoints that got their first price."""
    done = await migrate(db, settings=settings, catalogue=load_catalogue(), now=datetime.now(UTC))
    return list(done.priced)


@pytest.mark.usefixtures("third_endpoint")
async def test_one_new_file_is_route_schema_price_and_job(
    postgres: EmbeddedPostgres, template: str, fal: Sandbox
) -> None:
    url = fresh_database(postgres, template)
    db = Database(url)
    settings = working_settings(url, fal)
    assert await seed(db, settings) == ["fal-ai/next/v1/text-to-video"]
    assert await seed(db, settings) == []
    await db.close()
    async with run_gateway(settings) as gateway:
        ann = await gateway.make_person()
        models = (await gateway.client.get("/v1/models", headers=ann.headers)).json()["data"]
        (model,) = [model for model in models if model["model"] == "next-1"]
        assert model["category"] == "text-to-video"
        assert {price["usd_per_second"] for price in model["prices"]} == {"0.40", "0.20"}
        document = (await gateway.client.get("/openapi.json")).json()
        content = document["paths"][TEXT]["post"]["requestBody"]["content"]["application/json"]
        assert {ref["$ref"].rsplit("/", 1)[1] for ref in content["schema"]["anyOf"]} > {
            "TextToVideoV21MasterRequestBody", "NextTextRequestBody",
        }  # fmt: skip
        assert content["examples"]["next-1"]["value"]["model"] == "next-1", "the example asks for its own model"
        schema = document["components"]["schemas"]["NextTextRequestBody"]
        assert {"prompt", "seconds", "generate_audio", "resolution", "tags", "end_user", "model", "webhook_url"} == set(
            schema["properties"]
        )
        assert "model" in schema["required"], "it is not the default"

        for name in ("next-1", "fal-ai/next/v1/text-to-video"):
            job = (await gateway.submit(ann, model=name)).json()
            assert (job["model"], job["endpoint"]) == ("next-1", "fal-ai/next/v1/text-to-video")
            assert (job["seconds"], job["quoted_usd"]) == (8, "3.20"), "defaults are filled in before pricing"
            assert job["input"] == {
                "prompt": "a boat", "seconds": 8, "generate_audio": True, "resolution": "720p",
            }  # fmt: skip
        silent = (await gateway.submit(ann, model="next-1", generate_audio=False, seconds=3)).json()
        assert silent["quoted_usd"] == "0.60"
        assert set(faults(await gateway.submit(ann, model="next-1", seconds=2, duration="5"))) == {
            "/seconds",
            "/duration",
        }
        assert list(faults(await gateway.submit(ann, seconds=8))) == ["/seconds"], "the default model has no such field"
        listed = await gateway.client.get("/v1/jobs?model=next-1", headers=ann.headers)
        assert len(listed.json()["data"]) == 3
        assert (await gateway.submit(ann)).json()["endpoint"] == TEXT_ENDPOINT


def test_two_endpoints_of_one_name_and_category_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "next_1.py").write_text(FILE)
    (tmp_path / "next_2.py").write_text(FILE.replace("fal-ai/next/v1", "fal-ai/next/v2"))
    monkeypatch.setattr(endpoints, "__path__", [*endpoints.__path__, str(tmp_path)])
    try:
        with pytest.raises(ValueError, match="two text-to-video endpoints are called next-1"):
            load_catalogue()
    finally:
        for name in ("next_1", "next_2"):
            sys.modules.pop(f"app.catalogue.endpoints.{name}", None)
