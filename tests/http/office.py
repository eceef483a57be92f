"""Mia, her things, and everybody who reaches for them; and every operation there is to reach with."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.gateway import ADMIN, Gateway, Person

from .world import TEXT_ENDPOINT

NOBODY = "nobody"


class Office:
    """Mia, whose things everybody reaches for, and all who do."""

    def __init__(self, gateway: Gateway, people: dict[str, Person]) -> None:
        self.gateway = gateway
        self.people = people
        self.mia = people["mia"]
        self.fresh = self.mia
        self.numbers = itertools.count()

    @classmethod
    async def open(cls, gateway: Gateway) -> "Office":
        mia = await gateway.make_person()
        people = {
            "mia": mia,
            "colleague": await gateway.make_person(team_id=mia.team_id),
            "lead": await gateway.make_person("lead", mia.team_id),
            "other_lead": await gateway.make_person("lead"),
            "stranger": await gateway.make_person(),
            "finance": await gateway.make_person("finance"),
            "admin": await gateway.make_person("admin"),
        }
        return cls(gateway, people)

    def headers(self, who: str) -> dict[str, str]:
        return {NOBODY: {}, "ADMIN_KEY": ADMIN}.get(who) or (self.people[who].headers if who in self.people else {})

    def price(self) -> dict[str, Any]:
        starts_at = datetime.now(UTC) + timedelta(days=1, seconds=next(self.numbers))
        return {
            "endpoint": TEXT_ENDPOINT, "base_seconds": 5, "base_usd": 1, "usd_per_second": 1,
            "starts_at": starts_at.isoformat(),
        }  # fmt: skip

    async def make(self, operation: str) -> str:
        """Something new of Mia's for this operation to reach for; its id."""
        match operation.partition("_")[2]:
            case "quota" | "freeze" as kind:
                fresh = await self.gateway.make_person(team_id=self.mia.team_id)
                scope = {"scope": "user", "scope_id": fresh.user_id}
                quota = {"metric": "usd", "window": "day", "maximum": 1}
                path, body = ("/v1/quotas", quota) if kind == "quota" else ("/v1/freeze", {"note": "x"})
                return str((await self.gateway.admin("POST", path, **scope, **body))["id"])
            case "price":
                return str((await self.gateway.admin("POST", "/v1/prices", **self.price()))["id"])
            case "team":
                return await self.gateway.make_team()
            case "user":
                return (await self.gateway.make_person(team_id=self.mia.team_id)).user_id
            case "key":
                return str((await self.gateway.admin("POST", "/v1/keys", name="x", user_id=self.mia.user_id))["id"])
        submitted = await self.gateway.submit(self.mia, webhook_url="https://hooks.test/")
        assert submitted.status_code == 202, submitted.text
        made = job_id = str(submitted.json()["id"])
        if operation in {"stream_job_events", "redeliver_delivery", "erase_job_payload", "create_adjustment"}:
            await self.gateway.client.post(f"/v1/jobs/{job_id}/cancel", headers=self.mia.headers)
        if operation == "redeliver_delivery":
            page = await self.gateway.client.get(f"/v1/deliveries?job_id={job_id}", headers=self.mia.headers)
            made = str(page.json()["data"][0]["id"])
        if operation == "resolve_job":
            async with self.gateway.wiring.db.plain() as plain:
                await plain.execute("UPDATE jobs SET status = 'unconfirmed' WHERE id = $1", job_id.removeprefix("job_"))
        return made

    async def call(self, who: str, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        return await self.gateway.client.request(method, path, json=body, headers=self.headers(who))


async def operations(gateway: Gateway) -> dict[str, tuple[str, str]]:
    """Method and path of every operation."""
    document = (await gateway.client.get("/openapi.json")).json()
    return {
        operation["operationId"]: (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


async def fill(office: Office, operation: str, template: str) -> str:
    head, brace, rest = template.replace("{endpoint}", TEXT_ENDPOINT).replace("{month}", "2020-02").partition("{")
    return head + (await office.make(operation) + rest.partition("}")[2] if brace else "")
