"""Kling 2.5 Turbo Pro, text to video.

Price: FAL.md 7.3, fal.ai/models/fal-ai/kling-video/v2.5-turbo/pro/text-to-video/llms.txt. Input: the same page;
`@fal-ai/client` 1.10.1 types/endpoints.d.ts:44569, which says that it is the one of 2.1 Master (FAL.md 7.2).
"""

from app.catalogue.endpoint import Endpoint
from app.catalogue.kling import TextToVideo, five_seconds, seconds_of


class TextToVideoV25ProRequest(TextToVideo):
    """fal's `TextToVideoV25ProRequest`."""


ENDPOINT = Endpoint(
    id="fal-ai/kling-video/v2.5-turbo/pro/text-to-video",
    model="kling-2.5-turbo-pro",
    category="text-to-video",
    input=TextToVideoV25ProRequest,
    seconds=seconds_of,
    prices=(five_seconds("0.35", then="0.07"),),
    example={
        "prompt": "A noble lord walks among his people and greets them",
        "duration": "5",
    },
)
