"""Every route that can spend goes through `Submits`, the one door; a test lists them (LESSONS: overspend)."""

import pytest

from app.jobs.submits.submit import Submits
from app.problems import Unavailable
from tests.gateway import Gateway, Person

from .office import Office, fill, operations
from .test_roles import TABLE, WHO
from .world import TEXT_ENDPOINT

pytestmark = pytest.mark.asyncio(loop_scope="package")

SPENDS = {"submit_text_to_video", "submit_image_to_video", "submit_as_to_fal"}
UNWRITTEN = {
    "run": ("POST", f"/fal/run/{TEXT_ENDPOINT}", {}),
    "proxy": ("POST", "/fal/proxy", {"x-fal-target-url": f"https://queue.fal.run/{TEXT_ENDPOINT}"}),
    "proxied run": ("POST", "/fal/proxy", {"x-fal-target-url": f"https://fal.run/{TEXT_ENDPOINT}"}),
}
"""Ways to spend that the schema does not list: method, path and headers."""


async def count_jobs(gateway: Gateway) -> tuple[int, int]:
    async with gateway.wiring.db.plain() as plain:
        jobs, held = await plain.fetchrow(
            "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM entries WHERE kind = 'hold')"
        ) or (0, 0)
        return jobs, held


async def test_these_routes_make_jobs_and_no_other_does(gateway: Gateway, office: Office) -> None:
    spent = set()
    for operation, (method, template) in (await operations(gateway)).items():
        office.fresh = await gateway.make_person(team_id=office.mia.team_id)
        path = await fill(office, operation, template)
        before = await count_jobs(gateway)
        answer = await office.call("admin", method, path, TABLE[operation].body(office))
        assert answer.status_code == TABLE[operation].answers[WHO.index("admin")], (operation, answer.text)
        if await count_jobs(gateway) != before:
            spent.add(operation)
    assert spent == SPENDS


async def test_each_of_them_goes_through_the_one_door(
    gateway: Gateway, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    knocked = []

    async def closed(_: Submits, submission: object) -> None:
        knocked.append(submission)
        raise Unavailable

    monkeypatch.setattr(Submits, "submit", closed)
    for operation in SPENDS:
        method, path = (await operations(gateway))[operation]
        before = await count_jobs(gateway)
        answer = await office.call("mia", method, await fill(office, operation, path), TABLE[operation].body(office))
        assert (answer.status_code, "unavailable" in answer.text) == (503, True)
        assert await count_jobs(gateway) == before
    for method, path, more in UNWRITTEN.values():
        before = await count_jobs(gateway)
        headers = office.mia.headers | more
        answer = await gateway.client.request(method, path, json={"prompt": "x"}, headers=headers)
        assert (answer.status_code, answer.json()["error_type"]) == (503, "unavailable")
        assert await count_jobs(gateway) == before
    assert len(knocked) == len(SPENDS) + len(UNWRITTEN)


@pytest.mark.parametrize("operation", sorted(SPENDS))
async def test_a_full_quota_stops_each_of_them(gateway: Gateway, office: Office, ann: Person, operation: str) -> None:
    await gateway.set_quota("1.39", scope="user", scope_id=ann.user_id)
    method, path = (await operations(gateway))[operation]
    path = await fill(office, operation, path)
    answer = await gateway.client.request(method, path, json=TABLE[operation].body(office), headers=ann.headers)
    assert (answer.status_code, answer.json()["quotas"][0]["metric"]) == (402, "usd")


@pytest.mark.parametrize("way", UNWRITTEN)
async def test_nor_does_it_let_an_unwritten_way_through(gateway: Gateway, ann: Person, way: str) -> None:
    await gateway.set_quota("1.39", scope="user", scope_id=ann.user_id)
    method, path, headers = UNWRITTEN[way]
    answer = await gateway.client.request(method, path, json={"prompt": "x"}, headers=ann.headers | headers)
    assert (answer.status_code, answer.json()["error_type"]) == (402, "quota_exceeded")
