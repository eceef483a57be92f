"""Kling 2.1 Master, text to video, as fal documents it (FAL.md 7.1, 7.2)."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from app.catalogue.endpoint import Endpoint, Input, PriceSeed
from app.catalogue.fields import NO_NUL, FiveOrTen


class TextToVideoV21MasterRequest(Input):
    """fal's `TextToVideoV21MasterRequest`."""

    prompt: Annotated[str, Field(min_length=1, max_length=2500, description="What the video shows."), NO_NUL]
    duration: FiveOrTen = "5"
    aspect_ratio: Literal["16:9", "9:16", "1:1"] = "16:9"
    negative_prompt: Annotated[str, Field(max_length=2500), NO_NUL] = "blur, distort, and low quality"
    cfg_scale: Annotated[float, Field(ge=0, le=1, description="How closely to keep to the prompt.")] = 0.5


def _seconds(given: TextToVideoV21MasterRequest) -> Decimal:
    return Decimal(given.duration)


ENDPOINT = Endpoint(
    id="fal-ai/kling-video/v2.1/master/text-to-video",
    model="kling-2.1-master",
    category="text-to-video",
    input=TextToVideoV21MasterRequest,
    seconds=_seconds,
    prices=(PriceSeed(base_seconds=Decimal(5), base_usd=Decimal("1.40"), usd_per_second=Decimal("0.28"), when={}),),
    example={
        "prompt": "A paper boat crosses a puddle at dawn, slow dolly shot",
        "duration": "5",
    },
)
