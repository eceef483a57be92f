"""Kling 2.5 Turbo Standard, image to video.

Price: FAL.md 7.3, fal.ai/models/fal-ai/kling-video/v2.5-turbo/standard/image-to-video/llms.txt. Input: the same page;
`@fal-ai/client` 1.10.1 types/endpoints.d.ts:44571, which says that it is the one of 2.1 Master (FAL.md 7.2).
"""

from app.catalogue.endpoint import Endpoint
from app.catalogue.kling import IMAGE_BYTES, IMAGE_TYPES, ImageToVideo, five_seconds, seconds_of


class ImageToVideoV25StandardRequest(ImageToVideo):
    """fal's `ImageToVideoV25StandardRequest`."""


ENDPOINT = Endpoint(
    id="fal-ai/kling-video/v2.5-turbo/standard/image-to-video",
    model="kling-2.5-turbo-standard",
    category="image-to-video",
    input=ImageToVideoV25StandardRequest,
    seconds=seconds_of,
    prices=(five_seconds("0.21", then="0.042"),),
    image_fields=("image_url",),
    image_types=IMAGE_TYPES,
    image_bytes=IMAGE_BYTES,
    example={
        "prompt": "Fine grains of salt drift across the flats in a slow wind",
        "image_url": "https://example.com/flats.png",
        "duration": "5",
    },
)
