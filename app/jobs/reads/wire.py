"""A Job as callers see it: one SQL expression writes it everywhere, one schema describes it."""

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.db import sql_moment
from app.ids import JobId, KeyId, PriceId, TeamId, UserId, sql_show
from app.money import Amount, sql_decimal_text


def job_json(input_sql: str = "j.input") -> str:
    """The SQL that writes the row `j` of `jobs` as a Job, in JSON text. `input_sql` can hide the input."""
    members = {
        "id": sql_show("job", "j.id"),
        "status": "j.status",
        "model": "j.model",
        "endpoint": "j.endpoint",
        "input": input_sql,
        "output": "j.output",
        "error": "j.error",
        "tags": "j.tags",
        "end_user": "j.end_user",
        "seconds": "trim_scale(j.seconds)",
        "quoted_usd": sql_decimal_text("j.quoted_usd"),
        "held_usd": sql_decimal_text("j.held_usd"),
        "charged_usd": sql_decimal_text("j.charged_usd"),
        "price_id": sql_show("price", "j.price_id"),
        "queue_position": "j.queue_position",
        "estimated_start_at": sql_moment("j.estimated_start_at"),
        "fal_request_id": "j.fal_request_id",
        "user_id": sql_show("user", "j.user_id"),
        "team_id": sql_show("team", "j.team_id"),
        "key_id": sql_show("key", "j.key_id"),
        "version": "j.version",
        "cancel_requested_at": sql_moment("j.cancel_requested_at"),
        "created_at": sql_moment("j.created_at"),
        "submitted_at": sql_moment("j.submitted_at"),
        "started_at": sql_moment("j.started_at"),
        "finished_at": sql_moment("j.finished_at"),
        "expires_at": sql_moment("j.expires_at"),
        "payload_erased_at": sql_moment("j.payload_erased_at"),
    }
    members["content_url"] = "NULL"  # the last: `links` puts the address of the video in its place
    listed = ", ".join(f"'{name}', {sql}" for name, sql in members.items())
    return f"json_build_object({listed})::text"


JOB_JSON: Final = job_json()
NO_CONTENT_URL: Final = "null}"
"""How each Job that `job_json` writes ends."""


class FalSide(BaseModel):
    """What fal itself said."""

    status: int | None
    type: str | None


class JobError(BaseModel):
    """Why a job did not succeed."""

    code: str
    title: str
    detail: str
    retryable: bool = Field(description="Whether asking for the same again may well succeed.")
    fal: FalSide


_EXAMPLE: Final[dict[str, Any]] = {
    "id": "job_0199f3a1c5e27b6d8f0a1b2c3d4e5f60",
    "status": "succeeded",
    "model": "kling-2.1-master",
    "endpoint": "fal-ai/kling-video/v2.1/master/text-to-video",
    "input": {
        "prompt": "A paper boat crosses a puddle at dawn",
        "duration": "5",
        "aspect_ratio": "16:9",
        "negative_prompt": "blur, distort, and low quality",
        "cfg_scale": 0.5,
    },
    "output": {"video": {"url": "https://v3.fal.media/files/…/boat.mp4", "content_type": "video/mp4"}},
    "error": None,
    "tags": {"campaign": "spring"},
    "end_user": None,
    "seconds": 5,
    "quoted_usd": "1.40",
    "held_usd": "0.00",
    "charged_usd": "1.40",
    "price_id": "price_0199f39e0b7c7d21a4c3f2e1d0b9a877",
    "queue_position": None,
    "estimated_start_at": None,
    "fal_request_id": "764cabcf-b745-4b3e-ae38-1200304cf45b",
    "user_id": "user_0199f39e11aa7c0e9d8c7b6a59483726",
    "team_id": "team_0199f39e0f557a1b8c9d0e1f2a3b4c5d",
    "key_id": "key_0199f39e13337e4f9a8b7c6d5e4f3a2b",
    "version": 6,
    "cancel_requested_at": None,
    "created_at": "2026-11-20T09:00:00.000000Z",
    "submitted_at": "2026-11-20T09:00:00.210000Z",
    "started_at": "2026-11-20T09:00:05.480000Z",
    "finished_at": "2026-11-20T09:04:11.020000Z",
    "expires_at": "2026-11-27T09:04:11.020000Z",
    "payload_erased_at": None,
    "content_url": "https://falgate.example/v1/jobs/job_0199f3a1c5e27b6d8f0a1b2c3d4e5f60/content?token=ft_…",
}


class Job(BaseModel):
    """One video asked for."""

    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    id: JobId
    status: str = Field(
        description="queued, submitting, submitted, running, unconfirmed; ended: succeeded, failed, canceled."
    )
    model: str
    endpoint: str
    input: dict[str, Any] | None = Field(
        description="fal's own fields with defaults filled in; null for finance, and once it was erased. "
        "Data URIs show size and digest."
    )
    output: dict[str, Any] | None = Field(description="fal's own, e.g. `{'video': {'url': …}}`.")
    error: JobError | None
    tags: dict[str, str]
    end_user: str | None
    seconds: float
    quoted_usd: Amount
    held_usd: Amount = Field(description="What is still held.")
    charged_usd: Amount | None = Field(description='Null until settled, then "0.00" if free.')
    price_id: PriceId
    queue_position: int | None = Field(
        description="How many jobs go before it: while `submitted` as fal says, while `queued` here (FAL_CONCURRENCY)."
    )
    estimated_start_at: datetime | None = Field(
        description="While `queued` (FAL_CONCURRENCY): when it may go to fal, judging by recent jobs."
    )
    fal_request_id: str | None
    user_id: UserId
    team_id: TeamId
    key_id: KeyId
    version: int = Field(description="Grows by one with each change.")
    cancel_requested_at: datetime | None
    created_at: datetime
    submitted_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="Until when its video is kept at least.")
    payload_erased_at: datetime | None = Field(
        description="When its input and output were erased: asked for, or old. What it cost stays."
    )
    content_url: str | None = Field(
        description="The video through this gateway, for an hour, for whoever has this address: it fits `<video src>`. "
        "Read the job again for another. Null until there is a video, and in webhooks, which may come later than that."
    )


class BlockingQuota(BaseModel):
    """A quota that blocks."""

    quota_id: str
    scope: str
    metric: str
    window: str | None
    maximum: Amount
    used: Amount
    held: Amount
    requested: Amount
    remaining: Amount
    window_ends_at: datetime | None


class BlockingFreeze(BaseModel):
    """A freeze that covers you."""

    id: str
    scope: str
    note: str
    by: str
    created_at: datetime


class Estimate(BaseModel):
    """What a job would cost, and whether it would be accepted now."""

    seconds: float
    quoted_usd: Amount
    allowed: bool
    quotas: list[BlockingQuota] = Field(description="Those that would block.")
    freezes: list[BlockingFreeze] = Field(
        default_factory=list, description="Those that cover you; left out when none does."
    )
