"""schemathesis over `/openapi.json`, as a member and as an admin: no 5xx, and every answer is as described."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
import schemathesis
from schemathesis import engine
from schemathesis.config import (
    CacheConfig,
    ChecksConfig,
    FuzzingPhaseConfig,
    GenerationConfig,
    PhasesConfig,
    PositiveDataAcceptanceConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
    StatefulPhaseConfig,
)
from schemathesis.config import CoveragePhaseConfig as Coverage
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.generation.case import Case
from schemathesis.generation.meta import CoveragePhaseData

from app.deliveries.post import Tried
from app.embedded import EmbeddedPostgres
from tests.gateway import Gateway, Person, run_gateway
from tests.sandbox.running import Sandbox

from .conftest import fresh_database, working_settings
from .world import NOBODYS

pytestmark = pytest.mark.asyncio(loop_scope="package")

MANY = 20


@dataclass
class Findings:
    """What a run saw."""

    faults: dict[tuple[str, str, str], str] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)

    def read(self, event: Any) -> None:
        if isinstance(event, NonFatalError | FatalError):
            self.faults[str(getattr(event, "label", "")), type(event).__name__, ""] = str(getattr(event, "info", event))
        if not isinstance(event, ScenarioFinished):
            return
        recorder = event.recorder
        for interaction in recorder.interactions.values():
            if interaction.response is not None:
                self.operations.add(recorder.label)
                self.statuses[interaction.response.status_code] += 1
        for case_id, checks in recorder.checks.items():
            for check in checks:
                if check.failure_info is not None:
                    failure = check.failure_info.failure
                    command = recorder.cases[case_id].value.as_curl_command()
                    self.faults[recorder.label, check.name, failure.title] = f"{failure.message}\n{command}"


class OneOfAKind:
    """Of the cases that put another wrong value, or one more subset of properties, in the same place, the first."""

    def __init__(self) -> None:
        self._asked: set[Hashable] = set()

    def takes(self, case: Case[Any]) -> bool:
        what = case.meta.phase.data if case.meta else None
        if not isinstance(what, CoveragePhaseData):
            return True
        kind = case.operation.label, what.scenario, what.parameter, what.location, what.description
        is_first = kind not in self._asked
        self._asked.add(kind)
        return is_first


def explore(document: dict[str, Any], gateway: Gateway, person: Person, *, examples: int, coverage: bool) -> Findings:
    """Ask whatever the document allows, and much that it does not; always the same, as the seed is given."""
    project = ProjectConfig(
        base_url=gateway.url,
        headers=person.headers,
        request_timeout=20,
        continue_on_failure=True,
        generation=GenerationConfig(max_examples=max(examples, 1), deterministic=True, database="none", no_shrink=True),
        checks=ChecksConfig(
            # an id that fits its pattern and is nobody's is a 422 in a body: no schema can say that
            positive_data_acceptance=PositiveDataAcceptanceConfig(enabled=False),
        ),
        phases=PhasesConfig(
            coverage=Coverage(enabled=coverage, unexpected_methods=set()),  # test_pages tries those
            fuzzing=FuzzingPhaseConfig(enabled=examples > 0),
            stateful=StatefulPhaseConfig(enabled=False),
        ),
    )
    config = SchemathesisConfig(seed=1, projects=ProjectsConfig(default=project), cache=CacheConfig(enabled=False))
    schema = schemathesis.openapi.from_dict(document, config=config)
    own = {person.key_id, person.user_id, person.team_id}

    @schemathesis.hook
    def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
        """Ids that answers tell are tried: but nobody saws off the branch they sit on."""
        for name, value in (case.path_parameters or {}).items():
            if value in own:
                case.path_parameters[name] = str(value).partition("_")[0] + "_" + NOBODYS
        body = case.body if isinstance(case.body, dict) else {}
        if case.path == "/v1/freeze" and body.get("scope") == "organization":
            body["scope_id"] = NOBODYS  # which is refused, or everybody would be frozen
        if case.path == "/v1/quotas/{id}" and re.fullmatch(r"[0-9.]+", str(body.get("maximum"))):
            body["maximum"] = "1000.00"  # or there would soon be nothing left to spend

    one_of_a_kind = OneOfAKind()
    if examples < MANY:

        @schemathesis.hook
        def filter_case(_context: Any, case: Case[Any]) -> bool:
            return one_of_a_kind.takes(case)

    findings = Findings()
    try:
        for event in engine.from_schema(schema).execute():
            findings.read(event)
    finally:
        schemathesis.hooks.unregister_all()
    return findings


class Nowhere:
    """Webhooks to whatever URL was made up go nowhere: no test calls another host."""

    async def send(self, *_: object, **__: object) -> Tried:
        return Tried(outcome="unreachable", error="no connection")


@pytest_asyncio.fixture(loop_scope="package")
async def explored(postgres: EmbeddedPostgres, template: str, fal: Sandbox) -> AsyncIterator[Gateway]:
    """A gateway of its own: an admin at random makes a mess of one."""
    async with run_gateway(working_settings(fresh_database(postgres, template), fal)) as gateway:
        gateway.app.state.sender._post = Nowhere()
        yield gateway


def ask_for_fewer_models(document: dict[str, Any]) -> None:
    """Of each route's models the first and the last, which differ most: the others are read in the same way."""
    for path in document["paths"].values():
        content = path.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        if "anyOf" in content.get("schema", {}):
            content["schema"]["anyOf"] = content["schema"]["anyOf"][:: len(content["schema"]["anyOf"]) - 1]
            content["examples"] = dict(list(content["examples"].items())[:: len(content["examples"]) - 1])


@pytest.mark.parametrize(
    ("role", "examples", "coverage"),
    [
        ("member", 2, False),
        ("admin", 0, True),
        *(pytest.param(role, MANY, True, marks=pytest.mark.slow) for role in ("member", "admin")),
    ],
)
async def test_whatever_is_asked_is_answered_as_described(
    explored: Gateway, role: str, examples: int, *, coverage: bool
) -> None:
    person = await explored.make_person(role)
    await explored.set_quota("1000.00", scope="user", scope_id=person.user_id)
    document = (await explored.client.get("/openapi.json")).json()
    if examples < MANY:
        ask_for_fewer_models(document)
    findings = await asyncio.to_thread(explore, document, explored, person, examples=examples, coverage=coverage)
    assert not findings.faults, "\n\n".join(f"{where}: {what}" for where, what in findings.faults.items())
    assert not [status for status in findings.statuses if status >= 500]
    every = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert findings.operations == every
    assert {200, 201, 202, 204, 404, 422} <= findings.statuses.keys() | ({201, 204} if role == "member" else set())
    assert (await explored.client.get("/v1/me", headers=person.headers)).status_code == 200, "its key outlived the run"


@pytest.mark.parametrize(
    ("path", "lie"),
    [
        ("/v1/me", {"200": {"description": "", "content": {"application/json": {"schema": {"type": "array"}}}}}),
        ("/v1/models", {"401": {"description": "no 200"}}),
        ("/health/live", {"200": {"description": "", "content": {"text/html": {"schema": {"type": "string"}}}}}),
    ],
)
async def test_the_guard_sees_a_description_that_lies(explored: Gateway, path: str, lie: dict[str, Any]) -> None:
    person = await explored.make_person()
    document = (await explored.client.get("/openapi.json")).json()
    document["paths"] = {path: document["paths"][path]}
    document["paths"][path]["get"]["responses"] = lie
    findings = await asyncio.to_thread(explore, document, explored, person, examples=2, coverage=False)
    assert findings.faults
