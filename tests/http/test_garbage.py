"""What a request leaves behind goes at once: circles would be left to Python's collector, which stops everybody."""

import gc

import pytest

from app.web.patience import Patience
from tests.gateway import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_requests_leave_no_circles_behind(gateway: Gateway) -> None:
    """Only the collector finds those; what still holds a request that is over, a cancelled timer, does not count."""
    mia = await gateway.make_person()
    job_id = (await gateway.submit(mia)).json()["id"]
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            path = f"/fal/fal-ai/kling-video/requests/{job_id}/status"
            assert (await gateway.client.get(path, headers=mia.headers)).status_code in {200, 202}
            assert (await gateway.submit(mia)).status_code == 202
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        circles = sum(isinstance(each, Patience) for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert circles < 10, "a connection that was closed meanwhile is one"
