"""Reading one job, lists of jobs, and a job's entries."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.gateway import Gateway, Person

from .world import IMAGE, NOBODYS, TEXT_ENDPOINT, faults, nothing_written, refusal, schema_of

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def list_ids(gateway: Gateway, person: Person, query: str = "") -> list[str]:
    answer = await gateway.client.get(f"/v1/jobs?limit=100&{query}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["data"]]


async def submit_id(gateway: Gateway, person: Person, **fields: Any) -> str:
    answer = await gateway.submit(person, **fields)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def test_a_list_shows_whole_jobs_newest_first(gateway: Gateway, ann: Person) -> None:
    jobs = [(await gateway.submit(ann, prompt=f"boat {number}")).json() for number in range(3)]
    page = (await gateway.client.get("/v1/jobs", headers=ann.headers)).json()
    assert page == {"data": jobs[::-1], "next_cursor": None}


async def test_a_list_is_twenty_long_unless_asked_otherwise(gateway: Gateway, ann: Person) -> None:
    await asyncio.gather(*(gateway.submit(ann) for _ in range(23)))
    for query, length in (("", 20), ("?limit=1", 1), ("?limit=23", 23), ("?limit=100", 23)):
        page = (await gateway.client.get(f"/v1/jobs{query}", headers=ann.headers)).json()
        assert (len(page["data"]), page["next_cursor"] is None) == (length, length == 23)


async def test_pages_stay_as_they_are_while_jobs_come_in(gateway: Gateway, ann: Person) -> None:
    old = [await submit_id(gateway, ann) for _ in range(7)]
    found, cursor = [], ""
    while True:
        page = (await gateway.client.get(f"/v1/jobs?limit=3{cursor}", headers=ann.headers)).json()
        found += [job["id"] for job in page["data"]]
        await gateway.submit(ann)
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == old[::-1]


async def test_each_filter_finds_what_it_names(gateway: Gateway) -> None:
    lead = await gateway.make_person("lead")
    ann = await gateway.make_person(team_id=lead.team_id)
    plain = await submit_id(gateway, ann)
    tagged = await submit_id(gateway, ann, tags={"campaign": "spring", "a.b": ""}, end_user="42")
    leads = await submit_id(gateway, lead, tags={"campaign": "autumn"}, end_user="übermut")
    await gateway.client.post(f"/v1/jobs/{plain}/cancel", headers=ann.headers)
    for query, expected in (
        ("", [leads, tagged, plain]),
        ("status=queued", [leads, tagged]),
        ("status=canceled", [plain]),
        ("status=succeeded", []),
        ("model=kling-2.1-master", [leads, tagged, plain]),
        ("model=nothing", []),
        (f"user_id={ann.user_id}", [tagged, plain]),
        (f"user_id=user_{NOBODYS}", []),
        (f"team_id={lead.team_id}", [leads, tagged, plain]),
        (f"team_id=team_{NOBODYS}", []),
        ("end_user=42", [tagged]),
        (f"end_user={quote('übermut')}", [leads]),
        ("tag.campaign=spring", [tagged]),
        ("tag.a.b=", [tagged]),
        ("tag.campaign=spring&tag.a.b=", [tagged]),
        ("tag.campaign=spring&tag.a.b=x", []),
        ("tag.campaign=SPRING", []),
        (f"tag.campaign=autumn&user_id={ann.user_id}", []),
        ("status=queued&end_user=42&model=kling-2.1-master&tag.campaign=spring", [tagged]),
    ):
        assert await list_ids(gateway, lead, query) == expected, query
    assert await list_ids(gateway, ann) == [tagged, plain]


async def test_since_is_included_and_until_is_not(gateway: Gateway, ann: Person) -> None:
    job = (await gateway.submit(ann)).json()
    made_at = datetime.fromisoformat(job["created_at"])
    made_at = made_at.replace(microsecond=made_at.microsecond // 1000 * 1000)
    later = made_at + timedelta(milliseconds=1)

    def written(moment: datetime) -> str:
        return quote(moment.isoformat())

    for query, found in (
        (f"since={written(made_at)}", True),
        (f"since={written(later)}", False),
        (f"until={written(made_at)}", False),
        (f"until={written(later)}", True),
        (f"since={written(made_at)}&until={written(later)}", True),
        (f"since={written(later)}&until={written(made_at)}", False),
        ("since=1970-01-01T00:00:00Z&until=9998-12-31T23:59:59Z", True),
    ):
        assert (await list_ids(gateway, ann, query) == [job["id"]]) is found, query


WRONG = [
    ("nonsense=1", "nonsense"), ("Status=queued", "Status"), ("tag.=1", "tag."), ("tag=1", "tag"),
    ("status=", "status"), ("status=QUEUED", "status"), ("status=queued&status=failed", "status"),
    ("limit=0", "limit"), ("limit=101", "limit"), ("limit=-1", "limit"), ("limit=1.0", "limit"), ("limit=", "limit"),
    ("limit=x", "limit"), ("limit=00101", "limit"), ("limit=" + "9" * 250, "limit"), ("limit=001099999", "limit"),
    ("limit=٣", "limit"), ("cursor=", "cursor"), ("cursor=x", "cursor"), (f"cursor=key_{NOBODYS}", "cursor"),
    ("cursor=%00", "cursor"), ("cursor=job_" + "g" * 32, "cursor"), ("user_id=x", "user_id"), ("user_id=", "user_id"),
    (f"user_id=team_{NOBODYS}", "user_id"), ("team_id=%ff", "team_id"), ("model=%00", "model"),
    ("end_user=" + "x" * 301, "end_user"), ("tag.a=%00", "tag.a"), ("tag.%00=1", "tag.\0"),
    ("since=2026", "since"), ("since=1800000000", "since"), ("since=1800000000.5", "since"), ("since=-5", "since"),
    ("since=2026-01-01", "since"), ("since=2026-01-01T00:00:00", "since"), ("until=now", "until"),
    ("until=2026-02-30T00:00:00Z", "until"), ("since=0001-01-01T00:00:00%2B14:00", "since"),
    ("until=9999-12-31T23:59:59-14:00", "until"),
]  # fmt: skip


async def test_no_filter_is_guessed(gateway: Gateway, ann: Person) -> None:
    for query, parameter in WRONG:
        answer = await gateway.client.get(f"/v1/jobs?{query}", headers=ann.headers)
        assert list(faults(answer)) == [parameter], query


async def test_every_wrong_filter_is_named_at_once(gateway: Gateway, ann: Person) -> None:
    answer = await gateway.client.get("/v1/jobs?status=x&limit=0&nonsense=1&since=x&user_id=y", headers=ann.headers)
    assert set(faults(answer)) == {"status", "limit", "nonsense", "since", "user_id"}


async def test_a_tag_that_no_job_can_have_finds_nothing(gateway: Gateway, ann: Person) -> None:
    await submit_id(gateway, ann, tags={"a": "b"})
    for query in ("tag.A=b", "tag.a=%27%22", "tag.%22=1", "tag.a%27--=1", "tag.{}=1", "tag.%s=1", "tag.$1=1"):
        assert await list_ids(gateway, ann, query) == []


async def test_the_list_page_is_as_the_schema_says(gateway: Gateway, ann: Person) -> None:
    await gateway.submit(ann, tags={"a": "b"})
    page = (await gateway.client.get("/v1/jobs", headers=ann.headers)).json()
    (await schema_of(gateway, "Page_Job_")).validate(page)


async def test_reading_writes_nothing_but_when_a_key_was_used(gateway: Gateway, ann: Person) -> None:
    job_id = await submit_id(gateway, ann)
    async with nothing_written(gateway):
        for path in (f"/v1/jobs/{job_id}", "/v1/jobs", f"/v1/jobs/{job_id}/entries", "/v1/me", "/v1/models"):
            assert (await gateway.client.get(path, headers=ann.headers)).status_code == 200


async def test_the_entries_of_a_job_tell_its_money(working: Gateway) -> None:
    ann = await working.make_person()
    job = (await working.submit(ann, headers={"Prefer": "wait=20"})).json()
    answer = await working.client.get(f"/v1/jobs/{job['id']}/entries", headers=ann.headers)
    page = answer.json()
    (await schema_of(working, "ExplainedEntries")).validate(page)
    settle, hold = page["data"]
    members = [
        "id",
        "job_id",
        "kind",
        "amount_usd",
        "seconds",
        "price_id",
        "fal_units",
        "resolves_id",
        "note",
        "by",
        "created_at",
        "source",
        "why",
    ]
    assert sorted(settle) == sorted(hold) == sorted(members)
    assert (hold["kind"], hold["amount_usd"], hold["resolves_id"]) == ("hold", "1.40", None)
    assert (settle["kind"], settle["amount_usd"], settle["resolves_id"]) == ("settle", "1.40", hold["id"])
    assert (settle["fal_units"], settle["seconds"]) == ("5.00", 5)
    assert settle["job_id"] == hold["job_id"] == job["id"]
    assert page["next_cursor"] is None


async def test_entries_come_page_by_page(gateway: Gateway, ann: Person) -> None:
    job_id = await submit_id(gateway, ann)
    await gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=ann.headers)
    path = f"/v1/jobs/{job_id}/entries"
    first = (await gateway.client.get(f"{path}?limit=1", headers=ann.headers)).json()
    second = (await gateway.client.get(f"{path}?limit=1&cursor={first['next_cursor']}", headers=ann.headers)).json()
    assert [page["data"][0]["kind"] for page in (first, second)] == ["void", "hold"]
    assert second["next_cursor"] is None
    for query, parameter in (
        ("cursor=x", "cursor"),
        ("limit=0", "limit"),
        ("kind=hold", "kind"),
        ("cursor=", "cursor"),
    ):
        answer = await gateway.client.get(f"{path}?{query}", headers=ann.headers)
        assert list(faults(answer)) == [parameter]


async def test_what_is_not_there_and_what_is_not_yours_are_the_same_answer(gateway: Gateway, ann: Person) -> None:
    bob = await gateway.make_person()
    job_id = await submit_id(gateway, bob)
    for method, tail in (("GET", ""), ("GET", "/events"), ("GET", "/entries"), ("POST", "/cancel")):
        told = set()
        for asked in (job_id, f"job_{NOBODYS}", "job_", "x", "job_" + "G" * 32, f"key_{NOBODYS}", "%00", "%ff",
                      job_id.upper(), job_id + "0", "x" * 5000, "..%2f..", "null", "-1",
                      "job_" + "f" * 32):  # fmt: skip
            answer = await gateway.client.request(method, f"/v1/jobs/{asked}{tail}", headers=ann.headers)
            problem = refusal(answer, 404, "not-found")
            told.add((asked == "..%2f..", problem["detail"], problem["title"], tuple(problem)))
        assert len(told) == 2, told  # an encoded slash is another path; all the others are one answer


async def test_a_list_shows_nothing_of_others_whatever_is_asked(gateway: Gateway, ann: Person) -> None:
    bob = await gateway.make_person()
    await submit_id(gateway, bob, tags={"a": "b"}, end_user="42")
    for query in (f"user_id={bob.user_id}", f"team_id={bob.team_id}", "tag.a=b", "end_user=42", "status=queued",
                  f"model={TEXT_ENDPOINT}", f"cursor=job_{'f' * 32}"):  # fmt: skip
        assert await list_ids(gateway, ann, query) == []


async def test_a_job_keeps_the_team_it_was_made_in(gateway: Gateway) -> None:
    lead = await gateway.make_person("lead")
    ann = await gateway.make_person(team_id=lead.team_id)
    job_id = await submit_id(gateway, ann)
    team = await gateway.make_team()
    await gateway.admin("PATCH", f"/v1/users/{ann.user_id}", team_id=team)
    newer = await submit_id(gateway, ann)
    assert await list_ids(gateway, lead) == [job_id]
    assert await list_ids(gateway, ann) == [newer, job_id]
    assert (await gateway.job(ann, job_id))["team_id"] == lead.team_id
    assert await list_ids(gateway, ann, f"team_id={team}") == [newer]


async def test_an_image_job_is_listed_too(gateway: Gateway, ann: Person) -> None:
    body = {"prompt": "x", "image_url": "https://example.com/a.png"}
    made = (await gateway.client.post(IMAGE, json=body, headers=ann.headers)).json()
    assert await list_ids(gateway, ann) == [made["id"]]
    assert datetime.fromisoformat(made["created_at"]) <= datetime.now(UTC)
