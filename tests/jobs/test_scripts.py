"""Every word of the sandbox's that a gateway can meet leads to a stated end, charge and error."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from app.ledger.audit import audit
from app.sandbox.scripts import SCRIPTS
from app.settings import Settings
from tests.gateway import Gateway, Person, run_gateway
from tests.sandbox.running import Sandbox

SURE = "1.40"
FREE = "0.00"


@dataclass(frozen=True)
class Expected:
    """Where the job stands in the end, what it was charged, the code of its error, and the mark of its settle."""

    status: str
    charged: str | None
    error: str | None = None
    mark: str | None = None
    fal_status: int | None = None


WELL = Expected("succeeded", SURE)
UNCONFIRMED = Expected("unconfirmed", None)
WAITING = Expected("queued", None)

WORDS = {
    "refuse-at-submit": Expected("failed", FREE, "string-type", fal_status=422),
    "bad-request": Expected("failed", FREE, "bad-request", fal_status=400),
    "no-path": Expected("failed", FREE, "fal-error", fal_status=404),
    "too-large": Expected("failed", FREE, "fal-error", fal_status=413),
    "unknown-key": WAITING,
    "locked": WAITING,
    "busy": WAITING,
    "unavailable": UNCONFIRMED,
    "bad-gateway": UNCONFIRMED,
    "dropped": UNCONFIRMED,
    "lost": UNCONFIRMED,
    "lost-502": UNCONFIRMED,
    "lost-500": UNCONFIRMED,
    "cut": UNCONFIRMED,
    "garbled": UNCONFIRMED,
    "empty": UNCONFIRMED,
    "odd-code": UNCONFIRMED,
    "silent": UNCONFIRMED,
    "late-answer": WELL,
    "elsewhere": WELL,
    "slow": WELL,
    "quick": WELL,
    "requeue": WELL,
    "never-starts": Expected("submitted", None),  # until its start deadline: see test_table
    "hang": Expected("running", None),
    "unknown-status": WELL,
    "forgotten": Expected("submitted", None),  # until fal has said so twice, a minute apart: see test_table
    "finishes-anyway": WELL,
    "locked-later": WELL,
    "unlisted": WELL,
    "refuse": Expected("failed", FREE, "content-policy-violation", fal_status=422),
    "refuse-billed": Expected("failed", SURE, "content-policy-violation", fal_status=422),
    "refuse-no-units": Expected("failed", FREE, "content-policy-violation", "unstated", 422),
    "refuse-quietly": Expected("failed", FREE, "content-policy-violation", fal_status=422),
    "no-media": Expected("failed", FREE, "no-media-generated", fal_status=422),
    "bad-image": Expected("failed", FREE, "image-load-error", fal_status=422),
    "400": Expected("failed", FREE, "downstream-service-error", fal_status=400),
    "403": Expected("failed", FREE, "feature-not-supported", fal_status=403),
    "500": Expected("failed", FREE, "internal-server-error", fal_status=500),
    "500-billed": Expected("failed", FREE, "internal-server-error", fal_status=500),
    "downstream": Expected("failed", FREE, "downstream-service-unavailable", fal_status=500),
    "runner-lost": Expected("failed", FREE, "runner-disconnected", fal_status=503),
    "timeout": Expected("failed", FREE, "generation-timeout", fal_status=504),
    "garbled-result": WELL,
    "no-video": WELL,
    "odd-units": Expected("succeeded", SURE, mark="differs"),
    "zero-units": Expected("succeeded", FREE),
    "no-units": WELL,
    "no-webhook": WELL,
    "bare-webhook": WELL,
    "lapsed-video": WELL,
}
UNSETTLED = {"submitted", "running"}


@pytest.mark.usefixtures("impatient")
async def test_every_word_of_the_sandbox_leads_where_the_table_says(at_sandbox: Settings, sandbox: Sandbox) -> None:
    assert {script.word for script in SCRIPTS} == set(WORDS), "each word needs its line above"
    async with run_gateway(at_sandbox) as gateway:
        ann = await gateway.make_person()
        sandbox.set_fault(call="submit", fault="slow", seconds=0.3, times=len(WORDS))  # so that all are sent at once
        jobs = {word: (await gateway.submit(ann, f"a boat [{word}]")).json()["id"] for word in WORDS}
        found = dict(
            zip(jobs, await asyncio.gather(*(settled(gateway, ann, *pair) for pair in jobs.items())), strict=True)
        )
        assert found == WORDS
        books = {request["input"]["prompt"]: request for request in sandbox.requests()}
        for word, expected in WORDS.items():
            assert len([p for p in books if f"[{word}]" in p]) <= 1, word
            if expected.status == "succeeded" and expected.mark is None:
                billed = books[f"a boat [{word}]"]["billable_units"]
                assert expected.charged == (FREE if billed == "0" else SURE), word
        assert await audit(gateway.wiring.db, zone=at_sandbox.zone) == []


async def settled(gateway: Gateway, person: Person, word: str, job_id: str) -> Expected:
    """What became of the job, once it stands where the table says, or after a few seconds."""
    for _ in range(100):
        job = await gateway.job(person, job_id)
        found = await _found(gateway, job)
        if found == WORDS[word] and (found.status != "queued" or job["version"] > 2):
            break
        await asyncio.sleep(0.1)
    return found


async def _found(gateway: Gateway, job: dict[str, Any]) -> Expected:
    async with gateway.wiring.db.plain() as plain:
        mark = await plain.fetchval("SELECT mark FROM entries WHERE job_id = $1 AND mark IS NOT NULL", job["id"][4:])
    error = job["error"] or {"code": None, "fal": {"status": None}}
    return Expected(job["status"], job["charged_usd"], error["code"], mark, error["fal"]["status"])
