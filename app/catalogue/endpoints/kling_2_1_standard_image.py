"""Kling 2.1 Standard, image to video.

Price: FAL.md 7.3, fal.ai/models/fal-ai/kling-video/v2.1/standard/image-to-video/llms.txt. Input: the same page;
`@fal-ai/client` 1.10.1 types/endpoints.d.ts:44566; its bounds in ZOD (FAL.md, source keys),
`zSchemaKlingVideoV21StandardImageToVideoInput`.
"""

from app.catalogue.endpoint import Endpoint
from app.catalogue.kling import IMAGE_BYTES, IMAGE_TYPES, ImageToVideo, five_seconds, seconds_of


class ImageToVideoV21StandardRequest(ImageToVideo):
    """fal's `ImageToVideoV21StandardRequest`."""


ENDPOINT = Endpoint(
    id="fal-ai/kling-video/v2.1/standard/image-to-video",
    model="kling-2.1-standard",
    category="image-to-video",
    input=ImageToVideoV21StandardRequest,
    seconds=seconds_of,
    prices=(five_seconds("0.28", then="0.056"),),
    image_fields=("image_url",),
    image_types=IMAGE_TYPES,
    image_bytes=IMAGE_BYTES,
    example={
        "prompt": "Waves crash against dark rocks at sunset",
        "image_url": "https://example.com/coast.png",
        "duration": "5",
    },
)
