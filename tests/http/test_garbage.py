"""What a request leaves behind goes at once: circles would be left to Python's collector, which stops everybody."""

import gc

import pytest

from app.web.patience import Patience
from tests.gateway import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_requests_leave_no_circles_behind(gateway: Gateway) -> None:
    mia = await gateway.make_person()
    job_id = (await gateway.submit(mia)).json()["id"]
    gc.collect()
    gc.disable()
    before = {id(each) for each in gc.get_objects() if isinstance(each, Patience)}
    try:
        for _ in range(40):
            path = f"/fal/fal-ai/kling-video/requests/{job_id}/status"
            assert (await gateway.client.get(path, headers=mia.headers)).status_code in {200, 202}
            assert (await gateway.submit(mia)).status_code == 202
        left = [each for each in gc.get_objects() if isinstance(each, Patience) and id(each) not in before]
    finally:
        gc.enable()
    assert len(left) < 20, "a connection keeps its last request"
