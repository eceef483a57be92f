"""Kling 2.5 Turbo Pro, image to video, with a last image if one is given.

Price: FAL.md 7.3, fal.ai/models/fal-ai/kling-video/v2.5-turbo/pro/image-to-video/llms.txt. Input: the same page;
`@fal-ai/client` 1.10.1 types/endpoints.d.ts:17377; its bounds in ZOD (FAL.md, source keys),
`zSchemaKlingVideoV25TurboProImageToVideoInput`.
"""

from app.catalogue.endpoint import Endpoint
from app.catalogue.kling import IMAGE_BYTES, IMAGE_TYPES, ImageToImage, five_seconds, seconds_of


class ImageToVideoV25ProRequest(ImageToImage):
    """fal's `ImageToVideoV25ProRequest`."""


ENDPOINT = Endpoint(
    id="fal-ai/kling-video/v2.5-turbo/pro/image-to-video",
    model="kling-2.5-turbo-pro",
    category="image-to-video",
    input=ImageToVideoV25ProRequest,
    seconds=seconds_of,
    prices=(five_seconds("0.35", then="0.07"),),
    image_fields=("image_url", "tail_image_url"),
    image_types=IMAGE_TYPES,
    image_bytes=IMAGE_BYTES,
    example={
        "prompt": "Two cars surge over the starting line",
        "image_url": "https://example.com/start.png",
        "duration": "5",
    },
)
