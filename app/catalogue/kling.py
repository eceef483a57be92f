"""What all of Kling's endpoints on fal have in common (FAL.md 7.2; each file names where its own facts are from)."""

from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from app.catalogue.endpoint import Input, PriceSeed
from app.catalogue.fields import NO_NUL, FiveOrTen, ImageUrl

Prompt = Annotated[str, Field(min_length=1, max_length=2500, description="What the video shows."), NO_NUL]
NegativePrompt = Annotated[str, Field(max_length=2500), NO_NUL]
CfgScale = Annotated[float, Field(ge=0, le=1, description="How closely to keep to the prompt.")]
AspectRatio = Literal["16:9", "9:16", "1:1"]

NEGATIVE_PROMPT: Final = "blur, distort, and low quality"
IMAGE_TYPES: Final = ("image/jpeg", "image/png")  # as Kling's own API and later endpoints on fal: FAL.md 7.2
IMAGE_BYTES: Final = 10_000_000


class TextToVideo(Input):
    """A video of a text, as every Kling since 2.1 Master takes it."""

    prompt: Prompt
    duration: FiveOrTen = "5"
    aspect_ratio: AspectRatio = "16:9"
    negative_prompt: NegativePrompt = NEGATIVE_PROMPT
    cfg_scale: CfgScale = 0.5


class ImageToVideo(Input):
    """A video that begins with an image, as 2.1 and 2.5 take it."""

    prompt: Prompt
    image_url: ImageUrl
    duration: FiveOrTen = "5"
    negative_prompt: NegativePrompt = NEGATIVE_PROMPT
    cfg_scale: CfgScale = 0.5


class ImageToImage(ImageToVideo):
    """The same, with a last image if one is given."""

    tail_image_url: ImageUrl | None = None


def seconds_of(given: Any) -> Decimal:
    """The seconds that `duration` asks for."""
    return Decimal(given.duration)


def five_seconds(usd: str, *, then: str) -> PriceSeed:
    """`usd` for the first five seconds, `then` for each further one, whatever else is asked for."""
    return PriceSeed(base_seconds=Decimal(5), base_usd=Decimal(usd), usd_per_second=Decimal(then), when={})
