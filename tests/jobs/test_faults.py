"""Every fault of the sandbox's at every call; and that no secret is seen anywhere in such a run."""

import asyncio
import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

import pytest

from app.ledger.audit import audit
from app.sandbox.faults import CALLS, FAULTS
from tests.conftest import ADMIN_KEY, FAL_KEY
from tests.gateway import Gateway, Person, run_gateway
from tests.jobs.conftest import settings_at
from tests.sandbox.running import Sandbox

DB_PASSWORD = "canary-database-password"

REFUSED = {"400": "failed", "404-path": "failed", "413": "failed", "422": "failed"}
REFUSED_US = dict.fromkeys(("401", "403-locked", "404", "404-html", "409", "429"), "succeeded")  # asked again
LOST = dict.fromkeys(
    (
        "202",
        "307",
        "408",
        "500",
        "502-html",
        "503",
        "504-html",
        "504-deadline",
        "odd-status",
        "empty",
        "truncated",
        "cut",
        "close",
        "reset",
        "hang",
    ),
    "unconfirmed",
)
SUBMIT = REFUSED | REFUSED_US | LOST | {"slow": "succeeded"}
"""What becomes of a job whose submit meets this fault once."""

RESULT = dict.fromkeys(FAULTS, "succeeded")
"""What fal's status does not speak of has to be said for a while: by then the fault has passed."""


@dataclass(frozen=True)
class Case:
    """One job, and the fault that its call meets."""

    call: str
    fault: str
    accepted: bool
    expected: str

    @property
    def prompt(self) -> str:
        hang = "[hang]" if self.call == "cancel" else ""
        return f"<{self.call} {self.fault} {'yes' if self.accepted else 'no'}> {hang}"


CASES = [
    *(Case("submit", fault, False, SUBMIT[fault]) for fault in FAULTS),  # noqa: FBT003
    *(Case("submit", fault, True, "unconfirmed") for fault in LOST),  # noqa: FBT003
    *(Case("status", fault, False, "succeeded") for fault in FAULTS),  # noqa: FBT003
    *(Case("result", fault, False, RESULT[fault]) for fault in FAULTS),  # noqa: FBT003
    *(Case("cancel", fault, accepted, "canceled") for fault in FAULTS for accepted in (False, True)),
]


@pytest.mark.slow  # tests/chaos/test_faults.py goes through them in every run
@pytest.mark.usefixtures("impatient")
async def test_every_fault_at_every_call_and_no_secret_anywhere(
    database_url: str, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    assert set(SUBMIT) == set(FAULTS), "each fault needs its line above"
    assert set(CALLS) == {"submit", "status", "stream", "result", "cancel"}
    caplog.set_level(logging.DEBUG)
    with_password = database_url.replace("@/", f":{DB_PASSWORD}@/")
    assert DB_PASSWORD in with_password
    for case in CASES:
        sandbox.set_fault(
            call=case.call,
            fault=case.fault,
            accepted=case.accepted,
            prompt=case.prompt,
            times=1 if case.call == "submit" else 2,
            seconds=0.2,
        )
    async with run_gateway(settings_at(with_password, sandbox.url)) as gateway:
        ann = await gateway.make_person()
        jobs = {case: await _begin(gateway, ann, case) for case in CASES}
        ends = await _ends(gateway, ann, jobs)
        told = [json.dumps(ends), *[await _everything(gateway, ann, job["id"]) for job in ends.values()]]
        rows = await _all_rows(gateway)
        assert await audit(gateway.wiring.db, zone=gateway.wiring.settings.zone) == []
    assert {case: ends[case.prompt]["status"] for case in CASES} == {case: case.expected for case in CASES}
    _agrees_with_the_books(ends, sandbox)
    _fal_knows_one_key_only(sandbox, ann)
    attempts = [row["id"] for row in map(json.loads, rows["attempts"])]
    seen = caplog.text + "".join(told)
    assert len(attempts) >= len(CASES)
    assert not [
        attempt for attempt in attempts if attempt in "".join(told) or attempt.replace("-", "") in "".join(told)
    ]
    for secret in (FAL_KEY, FAL_KEY.partition(":")[2], ADMIN_KEY, DB_PASSWORD, ann.secret):
        assert secret not in seen
        assert [table for table, lines in rows.items() if secret in "".join(lines)] == []


async def _begin(gateway: Gateway, person: Person, case: Case) -> str:
    return str((await gateway.submit(person, case.prompt)).json()["id"])


async def _ends(gateway: Gateway, person: Person, jobs: dict[Case, str]) -> dict[str, dict[str, Any]]:
    """Each job once it stands where it should, or after half a minute. What waits long is made due."""
    ends: dict[str, dict[str, Any]] = {}
    asked: set[str] = set()
    async with asyncio.timeout(60):
        for _ in range(100):
            for case, job_id in jobs.items():
                if ends.get(case.prompt, {}).get("status") == case.expected:
                    continue
                job = ends[case.prompt] = await gateway.job(person, job_id)
                if case.call == "cancel" and job["status"] == "running" and job_id not in asked:
                    asked.add(job_id)
                    await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=person.headers)
            if all(ends[case.prompt]["status"] == case.expected for case in jobs):
                break
            async with gateway.wiring.db.plain() as plain:
                await plain.execute(
                    "UPDATE jobs SET next_check_at = now() WHERE next_check_at > now() + interval '1 second'"
                    " AND status NOT IN ('submitting', 'queued')"
                )
            await asyncio.sleep(0.3)
    return ends


def _agrees_with_the_books(ends: dict[str, dict[str, Any]], sandbox: Sandbox) -> None:
    books: dict[str, list[dict[str, Any]]] = {}
    for request in sandbox.requests():
        books.setdefault(request["input"]["prompt"], []).append(request)
    for case in CASES:
        job, requests = ends[case.prompt], books.get(case.prompt, [])
        fal_has_it = case.accepted or case.expected in {"succeeded", "canceled"} or case.call != "submit"
        assert len(requests) == fal_has_it, case
        if job["status"] in {"succeeded", "canceled"}:
            assert job["fal_request_id"] == requests[0]["request_id"], case
            assert job["charged_usd"] == {"5": "1.40", "0": "0.00"}[requests[0]["billable_units"]], case
        elif job["status"] == "failed":
            assert job["charged_usd"] == "0.00", case
        else:
            assert (job["charged_usd"], job["held_usd"]) == (None, "1.40"), case


def _fal_knows_one_key_only(sandbox: Sandbox, person: Person) -> None:
    requests = sandbox.requests()
    assert {request["key_fingerprint"] for request in requests} == {hashlib.sha256(FAL_KEY.encode()).hexdigest()[:12]}
    assert person.secret not in json.dumps(requests)
    assert all(request["headers"]["x-fal-request-start-timeout"] == "3600" for request in requests)


async def _everything(gateway: Gateway, person: Person, job_id: str) -> str:
    """All that a caller can be told of a job."""
    texts = []
    for path in ("", "/entries", "/events"):
        headers = person.headers | {"Last-Event-ID": "0"}
        async with gateway.client.stream("GET", f"/v1/jobs/{job_id}{path}", headers=headers) as answer:
            async for line in answer.aiter_lines():
                texts.append(line)
                if line.startswith("data:"):
                    break
            texts.append(str(answer.headers))
    return "".join(texts)


async def _all_rows(gateway: Gateway) -> dict[str, list[str]]:
    async with gateway.wiring.db.plain() as plain:
        tables = [r[0] for r in await plain.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        return {
            table: [r[0] for r in await plain.fetch(f'SELECT row_to_json(t)::text FROM "{table}" t')]  # noqa: S608
            for table in tables
        }
