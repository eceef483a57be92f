"""What stands on the wire: a delivery, and the secret that signs it."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.http import ListQuery, is_cursor
from app.ids import DeliveryId, JobId

Status = Literal["pending", "delivered", "failed"]
_CURSOR: Final = Field(description="`next_cursor` of the page before.", max_length=200)


class WebhookSecret(BaseModel):
    """What signs your webhooks; receivers verify with it."""

    model_config = ConfigDict(hide_input_in_errors=True)

    secret: Annotated[str, Field(repr=False, examples=["whsec_…"])]
    created_at: datetime
    previous_expires_at: datetime | None = Field(description="Until when the secret before it signs along.")


class Delivery(BaseModel):
    """One webhook on its way to you. Its id is the `webhook-id` of every try."""

    id: DeliveryId
    job_id: Annotated[JobId, Field(description="Of an alert: the newest job that counts in its window.")]
    shape: str = Field(
        description="standard (Standard Webhooks), fal for a job that came by fal's own protocol, or slack."
    )
    type: str = Field(description="job.succeeded, job.failed, job.canceled or quota.alert.")
    url: str = Field(description="Of an alert without its path, which may be a secret.")
    status: str = Field(description="pending, delivered or failed.")
    tries: int = Field(description="Since it was made, or last asked for again.")
    next_try_at: datetime | None = Field(description="While a try is under way: when it counts as lost.")
    response_status: int | None = Field(description="The HTTP status of the last answer.")
    error: str | None = Field(description="Why the last try failed.")
    created_at: datetime
    tried_at: datetime | None
    delivered_at: datetime | None


class DeliveryQuery(ListQuery):
    """Which deliveries."""

    cursor: Annotated[str | None, _CURSOR, is_cursor("delivery")] = None
    job_id: JobId | None = None
    status: Status | None = None
