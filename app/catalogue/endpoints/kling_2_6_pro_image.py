"""Kling 2.6 Pro, image to video, with sound unless it is asked for without: the dear choice is the default.

Price: FAL.md 7.3, fal.ai/models/fal-ai/kling-video/v2.6/pro/image-to-video/llms.txt. Input: the same page and
`@fal-ai/client` 1.10.1 types/endpoints.d.ts:17404; its bounds in fal's OpenAPI of it (`ImageToVideoV26ProRequest`:
maxLength 2500). Not here: `voice_ids`. With voices a second costs $0.168, but what fal takes for voice control (an
empty list, a voice that the prompt never names, voices without sound) it does not say.
"""

from app.catalogue.endpoint import Endpoint, Input, each_second
from app.catalogue.fields import FiveOrTen, ImageUrl
from app.catalogue.kling import IMAGE_BYTES, IMAGE_TYPES, NEGATIVE_PROMPT, NegativePrompt, Prompt, seconds_of


class ImageToVideoV26ProRequest(Input):
    """fal's `ImageToVideoV26ProRequest`, but for the voices."""

    prompt: Prompt
    start_image_url: ImageUrl
    duration: FiveOrTen = "5"
    negative_prompt: NegativePrompt = NEGATIVE_PROMPT
    generate_audio: bool = True
    end_image_url: ImageUrl | None = None


ENDPOINT = Endpoint(
    id="fal-ai/kling-video/v2.6/pro/image-to-video",
    model="kling-2.6-pro",
    category="image-to-video",
    input=ImageToVideoV26ProRequest,
    seconds=seconds_of,
    prices=(
        each_second("0.14", generate_audio=True),
        each_second("0.07", generate_audio=False),
    ),
    image_fields=("start_image_url", "end_image_url"),
    image_types=IMAGE_TYPES,
    image_bytes=IMAGE_BYTES,
    example={
        "prompt": 'A king walks slowly and says "my people, here I am"',
        "start_image_url": "https://example.com/king.png",
        "duration": "5",
        "generate_audio": True,
    },
)
