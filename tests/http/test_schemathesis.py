"""schemathesis over `/openapi.json`, as a member and as an admin: no 5xx, no undocumented status, answers as described."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
import schemathesis
from schemathesis import engine
from schemathesis.config import (
    CacheConfig, CoveragePhaseConfig, FuzzingPhaseConfig, GenerationConfig, PhasesConfig, ProjectConfig, ProjectsConfig,
    SchemathesisConfig, StatefulPhaseConfig, ExamplesPhaseConfig,
)
from schemathesis.engine.events import ScenarioFinished

from tests.gateway import Gateway

from .office import Office

pytestmark = pytest.mark.asyncio(loop_scope="package")


def run(document, url, headers, ids, examples):
    project = ProjectConfig(
        base_url=url, headers=headers, request_timeout=10, continue_on_failure=True,
        generation=GenerationConfig(max_examples=examples, deterministic=True, database="none", no_shrink=True),
        phases=PhasesConfig(examples=ExamplesPhaseConfig(), coverage=CoveragePhaseConfig(), fuzzing=FuzzingPhaseConfig(), stateful=StatefulPhaseConfig(enabled=False)),
    )
    config = SchemathesisConfig(seed=1, projects=ProjectsConfig(default=project), cache=CacheConfig(enabled=False))
    schema = schemathesis.openapi.from_dict(document, config=config)
    failures, statuses = {}, Counter()
    errors=[]
    for event in engine.from_schema(schema).execute():
        if type(event).__name__ in ("NonFatalError","FatalError"):
            errors.append(repr(event)[:2000] + str(getattr(event,'info',''))[:1500])
        if isinstance(event, ScenarioFinished):
            rec = event.recorder
            for cid, inter in rec.interactions.items():
                if inter.response is not None:
                    statuses[event.phase.value, rec.label, inter.response.status_code] += 1
            for cid, checks in rec.checks.items():
                for check in checks:
                    if check.failure_info is not None:
                        f = check.failure_info.failure
                        case = rec.cases[cid].value
                        failures.setdefault((rec.label, check.name, f.title), (f.message[:600], case.as_curl_command()[:700], rec.interactions[cid].response.status_code if cid in rec.interactions else None))
    return failures, statuses, errors


@pytest.mark.parametrize("who", ["colleague", "admin"])
async def test_explore(gateway: Gateway, office: Office, who: str) -> None:
    document = (await gateway.client.get("/openapi.json")).json()
    t = time.time()
    failures, statuses, errors = await asyncio.to_thread(run, document, gateway.url, office.people[who].headers, {}, 10)
    print("TIME", time.time() - t, sum(statuses.values()))
    for (label, name, title), (m, curl, st) in failures.items():
        print("=====", label, "|", name, "|", title, "|", st, "\n", m, "\n", curl)
    for e in errors: print("ERR", e)
    print(Counter(p for (p,_,_),n in statuses.items() for _ in range(n)))
    for (p,l,s),n in sorted(statuses.items()):
        if s>=500: print(p,l,s,n)
