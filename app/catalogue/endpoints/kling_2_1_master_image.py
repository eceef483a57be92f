"""Kling 2.1 Master, image to video, as fal documents it (FAL.md 7.1, 7.2)."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from app.catalogue.endpoint import Endpoint, Input, PriceSeed
from app.catalogue.fields import NO_NUL, FiveOrTen, ImageUrl


class ImageToVideoV21MasterRequest(Input):
    """fal's `ImageToVideoV21MasterRequest`."""

    prompt: Annotated[str, Field(min_length=1, max_length=2500, description="What the video shows."), NO_NUL]
    image_url: ImageUrl
    duration: FiveOrTen = "5"
    negative_prompt: Annotated[str, Field(max_length=2500), NO_NUL] = "blur, distort, and low quality"
    cfg_scale: Annotated[float, Field(ge=0, le=1, description="How closely to keep to the prompt.")] = 0.5


def _seconds(given: ImageToVideoV21MasterRequest) -> Decimal:
    return Decimal(given.duration)


ENDPOINT = Endpoint(
    id="fal-ai/kling-video/v2.1/master/image-to-video",
    model="kling-2.1-master",
    category="image-to-video",
    input=ImageToVideoV21MasterRequest,
    seconds=_seconds,
    prices=(PriceSeed(base_seconds=Decimal(5), base_usd=Decimal("1.40"), usd_per_second=Decimal("0.28"), when={}),),
    image_fields=("image_url",),
    image_types=("image/jpeg", "image/png"),  # as Kling's own API and its siblings on fal: FAL.md 7.2
    image_bytes=10_000_000,
    example={
        "prompt": "The dice begin to roll",
        "image_url": "https://example.com/dice.png",
        "duration": "5",
    },
)
