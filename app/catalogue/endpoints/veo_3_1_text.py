"""Google's Veo 3.1, text to video: eight seconds with sound unless less is asked for.

Price: FAL.md 7.3, fal.ai/models/fal-ai/veo3.1/llms.txt. Input: the same page; `@fal-ai/client` 1.10.1
types/endpoints.d.ts:38006; its bounds in ZOD (FAL.md, source keys), `zSchemaVeo31Input`. fal bounds neither
`negative_prompt` nor `seed`: here the first is as long as a prompt at most, the second an integer that every JSON
reader keeps (RFC 8259, section 6).
"""

from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from app.catalogue.endpoint import Endpoint, Input, each_second
from app.catalogue.fields import NO_NUL

_SAFE: Final = 2**53 - 1


def _as_text(value: object) -> object:
    """fal's type is a string; an integer is taken too, as of the other models."""
    return f"{value}s" if isinstance(value, int) and not isinstance(value, bool) else value


Duration = Annotated[
    Literal["4s", "6s", "8s"],
    BeforeValidator(_as_text),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "enum": ["4s", "6s", "8s"]}, {"type": "integer", "enum": [4, 6, 8]}]},
        mode="validation",
    ),
]


class Veo31TextToVideoInput(Input):
    """fal's `Veo31TextToVideoInput`."""

    prompt: Annotated[str, Field(min_length=1, max_length=20_000, description="What the video shows."), NO_NUL]
    aspect_ratio: Literal["16:9", "9:16"] = "16:9"
    duration: Duration = "8s"
    negative_prompt: Annotated[str, Field(max_length=20_000), NO_NUL] | None = None
    resolution: Literal["720p", "1080p", "4k"] = "720p"
    generate_audio: bool = True
    seed: Annotated[int, Field(ge=-_SAFE, le=_SAFE)] | None = None
    auto_fix: Annotated[bool, Field(description="Rewrite a prompt that is refused, and try again.")] = True
    safety_tolerance: Annotated[Literal["1", "2", "3", "4", "5", "6"], Field(description="1 blocks most, 6 least.")] = (
        "4"
    )


def _seconds(given: Veo31TextToVideoInput) -> Decimal:
    return Decimal(given.duration.removesuffix("s"))


ENDPOINT = Endpoint(
    id="fal-ai/veo3.1",
    model="veo-3.1",
    category="text-to-video",
    input=Veo31TextToVideoInput,
    seconds=_seconds,
    prices=(
        each_second("0.40", resolution="720p", generate_audio=True),
        each_second("0.20", resolution="720p", generate_audio=False),
        each_second("0.40", resolution="1080p", generate_audio=True),
        each_second("0.20", resolution="1080p", generate_audio=False),
        each_second("0.60", resolution="4k", generate_audio=True),
        each_second("0.40", resolution="4k", generate_audio=False),
    ),
    example={
        "prompt": "An interview on a street in New York; the host asks: did you hear the news?",
        "duration": "8s",
        "resolution": "720p",
        "generate_audio": True,
    },
)
