"""What the gateway is measured against: FastAPI with a constant, and with one insert and one guarded update."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
from fastapi import FastAPI
from pydantic import BaseModel

TABLES = """
CREATE TABLE IF NOT EXISTS bare_quota (id int PRIMARY KEY, used numeric(20,9) NOT NULL, maximum numeric(20,9) NOT NULL);
CREATE TABLE IF NOT EXISTS bare_jobs (id uuid PRIMARY KEY, prompt text NOT NULL, amount numeric(20,9) NOT NULL);
INSERT INTO bare_quota VALUES (1, 0, 99999999999) ON CONFLICT DO NOTHING;
"""
_RESERVE = """
WITH raised AS (
    UPDATE bare_quota SET used = used + 1.40 WHERE id = 1 AND used + 1.40 <= maximum RETURNING id
)
INSERT INTO bare_jobs SELECT $1, $2, 1.40 FROM raised RETURNING id
"""


class Body(BaseModel):
    """What the bare route takes."""

    prompt: str


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["BARE_DSN"], min_size=10, max_size=10) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=_lifespan)


@app.post("/reserve", status_code=202)
async def reserve(body: Body) -> dict[str, str]:
    """One statement, one commit."""
    made = await app.state.pool.fetchval(_RESERVE, uuid4(), body.prompt)
    return {"id": str(made), "status": "queued"}


@app.get("/constant")
async def constant() -> dict[str, str]:
    """Nothing."""
    return {"id": "job_0", "status": "queued"}
