from app.settings import Settings
from tests.gateway import run_gateway


async def test_a_submit_is_answered_with_the_job_and_where_to_find_it(settings: Settings) -> None:
    async with run_gateway(settings, work=False) as gateway:
        ann = await gateway.make_person()
        answer = await gateway.submit(ann)
        assert answer.status_code == 202
        job = answer.json()
        assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
        assert (job["status"], job["quoted_usd"], job["held_usd"], job["charged_usd"]) == ("queued", "1.40", "1.40", None)
        assert await gateway.job(ann, job["id"]) == job
