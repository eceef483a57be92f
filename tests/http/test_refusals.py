"""The Contract's table of refusals: who is refused with what, and what the refusal tells."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from app.accounts.key_secrets import new_secret
from tests.conftest import ADMIN_KEY
from tests.gateway import ADMIN, Gateway, Person

from .world import IMAGE, TEXT, call_headers, nothing_written, refusal

pytestmark = pytest.mark.asyncio(loop_scope="package")

FIGURES = {
    "quota_id", "scope", "metric", "window", "maximum", "used", "held", "requested", "remaining", "window_ends_at",
}  # fmt: skip


async def try_everywhere(gateway: Gateway, headers: Any) -> list[httpx.Response]:
    """One call of each kind of route: hot paths, FastAPI's, with and without a body, user's and admin's."""
    calls = [
        ("POST", TEXT, {"prompt": "x"}), ("POST", IMAGE, {"prompt": "x", "image_url": "https://x/"}),
        ("POST", f"{TEXT}/estimate", {"prompt": "x"}), ("GET", "/v1/jobs", None), ("GET", f"/v1/jobs/job_{'0' * 32}",
        None),
        ("GET", f"/v1/jobs/job_{'0' * 32}/events", None), ("POST", f"/v1/jobs/job_{'0' * 32}/cancel", None),
        ("GET", f"/v1/jobs/job_{'0' * 32}/entries", None), ("GET", "/v1/me", None), ("GET", "/v1/models", None),
        ("GET", "/v1/quotas", None), ("POST", "/v1/teams", {"name": "x"}), ("GET", "/v1/audit-log", None),
    ]  # fmt: skip
    return [await gateway.client.request(method, path, json=body, headers=headers) for method, path, body in calls]


async def test_all_who_have_no_key_hear_the_same_everywhere(gateway: Gateway, ann: Person) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=1)
    expired = await gateway.admin("POST", "/v1/keys", name="x", user_id=ann.user_id, expires_at=expires_at.isoformat())
    revoked, disabled, archived = ann, await gateway.make_person(), await gateway.make_person()
    await gateway.admin("DELETE", f"/v1/keys/{revoked.key_id}")
    await gateway.admin("PATCH", f"/v1/users/{disabled.user_id}", disabled=True)
    await gateway.admin("PATCH", f"/v1/teams/{archived.team_id}", archived=True)
    mistyped = ann.secret[:-1] + ("a" if ann.secret[-1] != "a" else "b")
    await asyncio.sleep((expires_at - datetime.now(UTC)).total_seconds() + 0.01)
    good = (await gateway.make_person()).headers["Authorization"]
    nobody: list[Any] = [
        {}, {"Authorization": "Bearer"}, {"Authorization": new_secret()}, {"Authorization": ""},
        *({"Authorization": f"Bearer {secret}"} for secret in (
            new_secret(), revoked.secret, disabled.secret, archived.secret, expired["secret"], mistyped, "fg_",
            "x" * 5000,
            ADMIN_KEY + "x", ADMIN_KEY[:-1], good.split()[1] + " x", "\xff",
        )),
        {"Authorization": f"Key {ADMIN_KEY}"}, {"Authorization": f"Basic {good.split()[1]}"},
        {"Authorization": f"{good}, {good}"},
        call_headers(("Authorization", good), ("Authorization", good)),
        call_headers(("Authorization", good), ("Authorization", f"Bearer {new_secret()}")),
    ]  # fmt: skip
    told = set()
    async with nothing_written(gateway):
        for headers in nobody:
            raw = [(name.encode(), value.encode("latin-1")) for name, value in dict(headers).items()] if isinstance(
                headers, dict) else headers  # fmt: skip
            for answer in await try_everywhere(gateway, raw):
                problem = refusal(answer, 401, "key-unknown")
                assert answer.headers["www-authenticate"] == "Bearer"
                told.add((problem["title"], problem["detail"], problem["type"], *problem))
    assert len(told) == 1


async def test_who_has_no_key_hears_that_before_what_is_wrong_with_the_request(gateway: Gateway) -> None:
    for content, kind in (
        (b"", ""),
        (b"nonsense", "text/plain"),
        (b"{}", "application/json"),
        (b"[", "application/json"),
    ):
        for path in (TEXT, f"{TEXT}/estimate", "/v1/teams", "/v1/quotas", f"/v1/jobs/job_{'0' * 32}/resolve"):
            answer = await gateway.client.post(path, content=content, headers={"Content-Type": kind} if kind else {})
            refusal(answer, 401, "key-unknown")


async def test_so_does_whoever_has_a_key_no_more(gateway: Gateway, ann: Person) -> None:
    job_id = (await gateway.submit(ann)).json()["id"]
    await gateway.admin("DELETE", f"/v1/keys/{ann.key_id}")
    for secret in (ann.secret, new_secret()):
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        for path in (TEXT, f"{TEXT}/estimate", "/v1/quotas", f"/v1/keys/{ann.key_id}/rotate"):
            for content in (b"", b"nonsense", b"{}", b'{"prompt": 1, "name": 1}', b"x" * 3_000_000):
                answer = await gateway.client.post(path, content=content, headers=headers)
                assert answer.status_code == (413 if len(content) > 100 and "video" not in path else 401)
        for path in (
            "/v1/jobs?nonsense=1",
            "/v1/keys?nonsense=1",
            f"/v1/jobs/{job_id}",
            f"/v1/jobs/{job_id}/entries?x=1",
        ):
            answer = await gateway.client.get(path, headers=headers | {"Prefer": "wait=0"})
            refusal(answer, 401, "key-unknown")


async def test_who_may_not_hears_that_before_what_is_wrong_with_the_request(gateway: Gateway, ann: Person) -> None:
    for content, kind in ((b"", ""), (b"nonsense", "text/plain"), (b"{}", "application/json")):
        for path in ("/v1/teams", "/v1/quotas", "/v1/prices", f"/v1/jobs/job_{'0' * 32}/resolve"):
            headers = ann.headers | ({"Content-Type": kind} if kind else {})
            refusal(await gateway.client.post(path, content=content, headers=headers), 403, "role-forbidden")


async def test_admin_key_opens_no_users_route(gateway: Gateway) -> None:
    job = f"/v1/jobs/job_{'0' * 32}"
    async with nothing_written(gateway):
        for method, path in (("POST", TEXT), ("POST", IMAGE), ("POST", f"{TEXT}/estimate"), ("GET", "/v1/jobs"),
        ("GET", job),
                             ("GET", f"{job}/events"), ("POST", f"{job}/cancel"), ("GET", f"{job}/entries"), ("GET",
                             "/v1/me")):  # fmt: skip
            answer = await gateway.client.request(method, path, json={"prompt": "x"}, headers=ADMIN)
            assert "ADMIN_KEY" in refusal(answer, 403, "role-forbidden")["detail"]


async def test_403_names_the_roles_that_may(gateway: Gateway, ann: Person) -> None:
    for path, roles in (("/v1/teams", ["finance", "admin"]), ("/v1/audit-log", ["admin"]),
                        ("/v1/users", ["lead", "finance", "admin"])):  # fmt: skip
        problem = refusal(await gateway.client.get(path, headers=ann.headers), 403, "role-forbidden")
        assert problem["roles"] == roles
        assert all(role in problem["detail"] for role in roles)


async def test_402_names_every_quota_that_blocks_with_its_figures(gateway: Gateway, ann: Person) -> None:
    day = await gateway.set_quota("2.00", scope="user", scope_id=ann.user_id)
    month = await gateway.set_quota(9, "seconds", "month", scope="team", scope_id=ann.team_id)
    await gateway.set_quota("100.00", "usd", "week", scope="key", scope_id=ann.key_id)
    assert (await gateway.submit(ann)).status_code == 202
    async with nothing_written(gateway):
        answer = await gateway.submit(ann)
    problem = refusal(answer, 402, "quota-exceeded")
    assert "retry-after" not in answer.headers
    by_id = {quota["quota_id"]: quota for quota in problem["quotas"]}
    assert by_id.keys() == {day, month}
    assert all(set(quota) == FIGURES for quota in by_id.values())
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    assert by_id[day] == {
        "quota_id": day, "scope": "user", "metric": "usd", "window": "day", "maximum": "2.00", "used": "0.00",
        "held": "1.40",
        "requested": "1.40", "remaining": "0.60", "window_ends_at": f"{tomorrow}T00:00:00Z",
    }  # fmt: skip
    figures = {name: by_id[month][name] for name in ("maximum", "used", "held", "requested", "remaining")}
    assert figures == {"maximum": "9.00", "used": "0.00", "held": "5.00", "requested": "5.00", "remaining": "4.00"}


async def test_429_in_flight_says_when_to_come_back(gateway: Gateway, ann: Person) -> None:
    quota = await gateway.set_quota(1, "in_flight", None, scope="user", scope_id=ann.user_id)
    job_id = (await gateway.submit(ann)).json()["id"]
    async with nothing_written(gateway):
        answer = await gateway.submit(ann)
    problem = refusal(answer, 429, "too-many-in-flight")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert problem["quotas"] == [
        {
            "quota_id": quota, "scope": "user", "metric": "in_flight", "window": None, "maximum": "1.00",
            "used": "0.00",
            "held": "1.00", "requested": "1.00", "remaining": "0.00", "window_ends_at": None,
        }
    ]  # fmt: skip
    await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
    assert (await gateway.submit(ann)).status_code == 202


@pytest.mark.parametrize(("metric", "maximum"), [("jobs", 0), ("usd", "1.39"), ("seconds", 4)])
async def test_429_per_minute_says_when_the_minute_ends(
    gateway: Gateway, ann: Person, metric: str, maximum: str | int
) -> None:
    await gateway.set_quota(maximum, metric, "minute", scope="user", scope_id=ann.user_id)
    answer = await gateway.submit(ann)
    problem = refusal(answer, 429, "too-many-jobs")
    ends_at = datetime.fromisoformat(problem["quotas"][0]["window_ends_at"])
    assert abs((ends_at - datetime.now(UTC)).total_seconds() - int(answer.headers["retry-after"])) <= 2
    assert ends_at.second == 0


async def test_402_wins_over_429_and_names_them_all(gateway: Gateway, ann: Person) -> None:
    """Both official clients repeat a 429; here waiting a moment does not help."""
    await gateway.set_quota(0, "in_flight", None, scope="user", scope_id=ann.user_id)
    await gateway.set_quota(0, "jobs", "minute", scope="key", scope_id=ann.key_id)
    both = refusal(await gateway.submit(ann), 429, "too-many-in-flight")
    assert len(both["quotas"]) == 2
    await gateway.set_quota(0, "jobs", "hour", scope="team", scope_id=ann.team_id)
    answer = await gateway.submit(ann)
    assert len(refusal(answer, 402, "quota-exceeded")["quotas"]) == 3
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("window", ["hour", "day", "week", "month", "lifetime"])
@pytest.mark.parametrize("metric", ["usd", "seconds", "jobs"])
async def test_every_longer_window_is_402(gateway: Gateway, ann: Person, metric: str, window: str) -> None:
    await gateway.set_quota(0, metric, window, scope="end_user", scope_id=f"visitor of {ann.user_id}")
    assert (await gateway.submit(ann)).status_code == 202
    problem = refusal(await gateway.submit(ann, end_user=f"visitor of {ann.user_id}"), 402, "quota-exceeded")
    assert (problem["quotas"][0]["window_ends_at"] is None) == (window == "lifetime")


async def test_a_refusal_is_counted(gateway: Gateway, ann: Person) -> None:
    def refusals(text: str) -> float:
        line = next((line for line in text.splitlines() if 'refusals_total{code="quota-exceeded"}' in line), "x 0")
        return float(line.rsplit(" ", 1)[1])

    before = refusals((await gateway.client.get("/metrics")).text)
    await gateway.set_quota(0, scope="user", scope_id=ann.user_id)
    await gateway.submit(ann)
    assert refusals((await gateway.client.get("/metrics")).text) == before + 1


async def test_a_key_that_was_rotated_away_is_refused_and_the_new_one_is_the_same_user(
    gateway: Gateway, ann: Person
) -> None:
    job = (await gateway.submit(ann)).json()
    made = await gateway.client.post(f"/v1/keys/{ann.key_id}/rotate", json={}, headers=ann.headers)
    refusal(await gateway.submit(ann), 401, "key-unknown")
    new = Person(ann.user_id, ann.team_id, ann.key_id, made.json()["secret"])
    assert await gateway.job(new, job["id"]) == job
