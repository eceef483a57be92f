"""A video with httpx and the gateway's own calls: quotes, quotas, tags, and an answer that waits for the end."""

import os

import httpx

gateway = httpx.Client(base_url=os.environ["URL"], headers={"Authorization": f"Bearer {os.environ['KEY']}"}, timeout=90)
job = gateway.post(
    "/v1/text-to-video",
    json={"prompt": "a paper boat on a quiet lake", "duration": "5", "tags": {"film": "boat"}},
    headers={"Prefer": "wait=60", "Idempotency-Key": "boat-1"},
).raise_for_status()
while job.json()["finished_at"] is None:
    job = gateway.get(f"/v1/jobs/{job.json()['id']}", headers={"Prefer": "wait=60"}).raise_for_status()
print(job.json()["status"], job.json()["charged_usd"], job.json()["content_url"])
