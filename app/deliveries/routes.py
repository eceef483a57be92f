"""`/v1/deliveries`, and the secret that signs them: `/v1/me/webhook-secret`."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic_core import to_json

from app.accounts.access import AnyActor, Calling
from app.accounts.reach import found_id
from app.deliveries import book
from app.deliveries.fal_keys import KEYS_LIVE_SECONDS
from app.deliveries.secrets import read_secret, rotate_secret, seal_of
from app.deliveries.sender import Sender
from app.deliveries.shapes import Delivery, DeliveryQuery, WebhookSecret
from app.http import JsonRoute, Page, PlainRoute
from app.problems import NotFound, responses
from app.wiring import Wired

router: Final = APIRouter(route_class=JsonRoute, tags=["webhooks"])
plain: Final = APIRouter(route_class=PlainRoute, tags=["webhooks"])
"""What is matched before the rest of `/fal/`."""


@router.get(
    "/v1/me/webhook-secret",
    operation_id="get_webhook_secret",
    responses=responses(401, 403, 409, 503),
)
async def get_webhook_secret(caller: Calling, wired: Wired) -> WebhookSecret:
    """The secret that signs your webhooks (Standard Webhooks); made when it is first asked for."""
    seal = seal_of(wired.settings)
    async with wired.db.begin() as tx:
        return await read_secret(tx, seal, caller.user_id, now=wired.clock())


@router.post(
    "/v1/me/webhook-secret/rotate",
    operation_id="rotate_webhook_secret",
    responses=responses(401, 403, 409, 503),
)
async def rotate_webhook_secret(caller: Calling, wired: Wired) -> WebhookSecret:
    """Make a new secret. For 24 hours the one before it signs along, so that receivers need not change at once."""
    seal = seal_of(wired.settings)
    async with wired.db.begin() as tx:
        return await rotate_secret(tx, seal, caller, now=wired.clock())


@router.get("/v1/deliveries", operation_id="list_deliveries", responses=responses(401, 422, 503))
async def list_deliveries(query: Annotated[DeliveryQuery, Query()], actor: AnyActor, wired: Wired) -> Page[Delivery]:
    """List webhooks to you, newest first: your own; for a lead the team's too; for an admin all."""
    async with wired.db.plain() as plain:
        return await book.list_deliveries(plain, query, actor=actor)


@router.post(
    "/v1/deliveries/{id}/redeliver",
    status_code=202,
    operation_id="redeliver_delivery",
    responses=responses(401, 404, 409, 422, 503),
)
async def redeliver(
    delivery_id: Annotated[str, Path(alias="id", examples=["delivery_0199f3a1c5e27b6d8f0a1b2c3d4e5f60"])],
    actor: AnyActor,
    wired: Wired,
    request: Request,
) -> Delivery:
    """Send a webhook again, with the same id and body, and for another 24 hours; also one that has arrived."""
    found = found_id("delivery", delivery_id)
    async with wired.db.begin_plain() as plain:
        delivery = await book.redeliver(plain, found, actor=actor)
    sender: Sender = request.app.state.sender
    sender.loop.wake()
    return delivery


@plain.get("/fal/.well-known/jwks.json", include_in_schema=False)
@plain.get(
    "/.well-known/jwks.json",
    operation_id="get_webhook_keys",
    responses={200: {"content": {"application/json": {}}}, **responses(404)},
)
async def get_webhook_keys(request: Request) -> Response:
    """Read the public keys (a JWK set) that verify webhooks in fal's shape. No key is asked for."""
    sender: Sender = request.app.state.sender
    if sender.fal_signer is None:
        raise NotFound("This gateway signs no webhooks: whoever runs it must set SECRET_KEY first.")
    headers = {"Cache-Control": f"public, max-age={KEYS_LIVE_SECONDS}"}
    return Response(to_json(sender.fal_signer.key_set()), media_type="application/json", headers=headers)
