"""However many ask, and however many replicas there are: fal is asked once an interval for each job."""

import asyncio
from datetime import datetime

from app.settings import Settings
from tests.gateway import Gateway, run_gateway
from tests.sandbox.running import Sandbox


async def test_fal_is_called_no_more_often_for_200_callers_that_poll(at_sandbox: Settings, sandbox: Sandbox) -> None:
    sandbox.set_clock(speed=3)  # a job takes 1.3 s
    settings = at_sandbox.model_copy(update={"poll_seconds": 0.25})
    async with run_gateway(settings) as one, run_gateway(settings) as other:
        ann = await one.make_person()
        job_id = (await one.submit(ann)).json()["id"]

        async def poll(gateway: Gateway) -> str:
            for _ in range(300):
                job = await gateway.job(ann, job_id)
                if job["finished_at"] is not None:
                    break
                await asyncio.sleep(0.1)
            return str(job["status"])

        ends = await asyncio.gather(*(poll((one, other)[n % 2]) for n in range(200)))
        assert set(ends) == {"succeeded"}
        row = await one.job(ann, job_id)
    state = sandbox.http.get("/_sandbox/state").json()["calls"]
    assert sum(state.values()) <= 2 + _seconds(row) / 0.25, state
    assert state["submit"] == 1


async def test_two_replicas_with_a_slow_fal_do_not_double_the_calls(at_sandbox: Settings, sandbox: Sandbox) -> None:
    sandbox.set_clock(speed=3)
    sandbox.set_fault(call="status", fault="slow", seconds=0.5)
    settings = at_sandbox.model_copy(update={"poll_seconds": 0.2})
    async with run_gateway(settings) as one, run_gateway(settings):
        ann = await one.make_person()
        job = (await one.submit(ann)).json()
        row = await one.job(ann, job["id"], wait=20)
        assert row["status"] == "succeeded"
    state = sandbox.http.get("/_sandbox/state").json()["calls"]
    # both may read the result: a check that one began and the other overtook
    assert sum(state.values()) <= 3 + _seconds(row) / 0.2, state


def _seconds(job: dict[str, str]) -> float:
    ended, begun = (datetime.fromisoformat(job[name]) for name in ("finished_at", "created_at"))
    return (ended - begun).total_seconds()
