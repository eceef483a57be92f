"""The three books, read and compared: what fal did, what the ledger says, what callers were told."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

from app.db import Database
from app.ledger.audit import audit
from tests.chaos.callers import ERRANDS, Callers, Told, bill_of
from tests.chaos.receiver import Delivery, Receiver
from tests.sandbox.running import Sandbox

_NUMBER: Final = re.compile(r"<(\d+)>")
_CLIENT_CLOSED: Final = 499
_NOT_STARTED: Final = 504
_JOBS: Final = """
SELECT j.id, 'job_' || replace(j.id::text, '-', '') AS shown, j.status, j.input ->> 'prompt' AS prompt,
       j.quoted_usd, j.charged_usd, j.fal_request_id, k.key,
       coalesce((SELECT sum(e.amount_usd) FROM entries e WHERE e.job_id = j.id
                 AND e.kind IN ('settle', 'overage', 'adjustment')), 0) AS booked_usd,
       (SELECT count(*) FROM entries e WHERE e.job_id = j.id AND e.kind IN ('settle', 'void')) AS resolved,
       ARRAY(SELECT e.source FROM entries e WHERE e.job_id = j.id AND e.kind = 'overage') AS overages,
       ARRAY(SELECT a.fal_request_id FROM attempts a WHERE a.job_id = j.id AND a.fal_request_id IS NOT NULL) AS known
FROM jobs j LEFT JOIN idempotency_keys k ON k.job_id = j.id
"""


@dataclass
class Verdict:
    """Every difference, by what it is called in the issue; all empty when the books agree."""

    lost: list[str] = field(default_factory=list)
    started_twice: list[str] = field(default_factory=list)
    charged_wrong: list[str] = field(default_factory=list)
    told_wrong: list[str] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)
    jobs: int = 0
    requests: int = 0

    @property
    def differences(self) -> dict[str, list[str]]:
        kinds = ("lost", "started_twice", "charged_wrong", "told_wrong", "ledger")
        return {kind: found for kind in kinds if (found := getattr(self, kind))}


def has_run(request: dict[str, Any]) -> bool:
    """Whether fal began to render it: neither past its start deadline nor cancelled before."""
    if "started_at" in request:
        return request["started_at"] is not None
    return request["result_status"] not in {_NOT_STARTED, _CLIENT_CLOSED}


async def compare(db: Database, sandbox: Sandbox, callers: Callers, receiver: Receiver | None = None) -> Verdict:
    """Read all three and say where they differ; with a `receiver`, also what it was told."""
    verdict = Verdict(told_wrong=list(callers.wrong))
    verdict.ledger += map(str, await audit(db, zone=ZoneInfo("UTC")))
    at_fal: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for request in sandbox.requests():
        at_fal[_number(request["input"]["prompt"])].append(request)
        verdict.requests += 1
    by_number: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    async with db.plain() as plain:
        for row in await plain.fetch(_JOBS):
            by_number[_number(row["prompt"])].append(dict(row))
            verdict.jobs += 1
    for told in callers.told:
        jobs, requests = by_number.pop(told.number, []), at_fal.pop(told.number, [])
        if told.job_id is None and not jobs and not requests:
            continue  # refused, or never sent
        _compare_one(verdict, callers, told, jobs, requests)
    if receiver is not None:
        verdict.told_wrong += receiver.forged
        for told in callers.told:
            if told.ended is not None and not told.by_fal:
                verdict.told_wrong += _compare_deliveries(told, receiver.by_job[told.ended["id"]], callers)
    verdict.told_wrong += [f"nobody asked for {row['shown']}" for rows in by_number.values() for row in rows]
    verdict.started_twice += [f"nobody asked for {each}" for requests in at_fal.values() for each in requests]
    return verdict


def _compare_one(
    verdict: Verdict, callers: Callers, told: Told, jobs: list[dict[str, Any]], requests: list[dict[str, Any]]
) -> None:
    who = f"{told.job_id} {told.prompt}"
    if len(jobs) != 1:
        verdict.lost.append(f"{who}: {len(jobs)} jobs for one wish")
        return
    job = jobs[0]
    if job["shown"] != told.job_id or (not told.by_fal and job["key"] != told.key):
        verdict.told_wrong.append(f"{who}: stored as {job['shown']} under {job['key']}")
    if job["charged_usd"] is None:
        verdict.lost.append(f"{who}: has not ended, it is {job['status']}")
        return
    ran = [request for request in requests if has_run(request)]
    if len(ran) > 1:
        verdict.started_twice.append(f"{who}: {[request['request_id'] for request in ran]}")
    billed = sum((bill_of(request, job["quoted_usd"]) for request in requests), Decimal(0))
    if job["booked_usd"] != billed or job["resolved"] != 1:
        ids = [(each["request_id"], each["result_status"], each["billable_units"]) for each in requests]
        booked = f"{job['status']}, {job['resolved']} ends, charged {job['booked_usd']}"
        verdict.charged_wrong.append(f"{who}: {booked}, fal billed {billed} for {ids}")
    expected = _end_at_fal(told, requests) | ({"failed"} if told.job_id in callers.resolved else set())
    if job["status"] not in expected:
        verdict.told_wrong.append(f"{who}: {job['status']}, at fal {sorted(expected)}")
    if told.ended is not None and told.ended["status"] != job["status"]:
        verdict.told_wrong.append(f"{who}: told {told.ended['status']}, it is {job['status']}")


def _compare_deliveries(told: Told, came: list[Delivery], callers: Callers) -> list[str]:
    """At least one, all with one id and one body (but for a restore, which may make another), the Job as it ended."""
    who = f"{told.job_id} {told.prompt}"
    if not came:
        return [f"{who}: no delivery"]
    ended = told.ended or {}
    wrong = [f"{who}: {each.type} but {ended['status']}" for each in came if each.type != f"job.{ended['status']}"]
    if told.age != callers.age:
        return wrong
    lasting = [each for each in came if each.age == callers.age]
    if len({each.id for each in lasting}) != 1:
        wrong.append(f"{who}: deliveries { ({each.id for each in lasting}) }")
    ended = ended | {"content_url": None}  # a link of an hour, which is not sent out
    if told.errand is not ERRANDS["voided"] and any(each.data != ended for each in lasting):
        wrong.append(f"{who}: delivered {lasting[0].data}, told {ended}")
    return wrong


def _end_at_fal(told: Told, requests: list[dict[str, Any]]) -> set[str]:
    """How the job should have ended by what fal did."""
    current = [request for request in requests if request["result_status"] != _NOT_STARTED]
    if not current:
        return {"canceled"} if told.cancels else {"failed"}
    code = current[-1]["result_status"]
    if code == _CLIENT_CLOSED:
        return {"canceled"} if told.cancels else {"failed"}  # our watchdog's
    return {"succeeded"} if code == 200 else {"failed"}


def _number(prompt: str) -> int:
    found = _NUMBER.search(prompt)
    return int(found[1]) if found else -1


async def reread(callers: Callers) -> None:
    """Ask once more for everything: an end that was told stands, and a repeated key gives the same job."""
    for told in callers.told:
        if told.job_id is None or told.ended is None:
            continue
        answer = await callers.ask_until_answered("GET", f"/v1/jobs/{told.job_id}")
        if answer.status_code != 200:
            callers.wrong.append(f"{told.job_id} {told.prompt}: {answer.status_code} at the end")
            continue
        now, then = answer.json(), told.ended
        names = ["status", "output", "charged_usd", "held_usd"]
        if told.age == callers.age:
            names += ["error", "finished_at", "fal_request_id", "cancel_requested_at"]
        callers.wrong += [
            f"{told.job_id} {told.prompt}: {name} was {then[name]}, now {now[name]}"
            for name in names
            if now[name] != then[name] and not (name == "charged_usd" and told.errand is ERRANDS["voided"])
        ]
