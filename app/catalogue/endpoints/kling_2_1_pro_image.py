"""Kling 2.1 Pro, image to video, with a last image if one is given.

Price and input: FAL.md 7.3, fal.ai/models/fal-ai/kling-video/v2.1/pro/image-to-video/llms.txt. It names no greatest
length of the prompts; 2500 is that of every other Kling on fal (`ImageToVideoV21StandardRequest`,
`ImageToVideoV25ProRequest` in ZOD).
"""

from app.catalogue.endpoint import Endpoint
from app.catalogue.kling import IMAGE_BYTES, IMAGE_TYPES, ImageToImage, five_seconds, seconds_of


class ImageToVideoV21ProRequest(ImageToImage):
    """fal's `ImageToVideoV21ProRequest`."""


ENDPOINT = Endpoint(
    id="fal-ai/kling-video/v2.1/pro/image-to-video",
    model="kling-2.1-pro",
    category="image-to-video",
    input=ImageToVideoV21ProRequest,
    seconds=seconds_of,
    prices=(five_seconds("0.49", then="0.098"),),
    image_fields=("image_url", "tail_image_url"),
    image_types=IMAGE_TYPES,
    image_bytes=IMAGE_BYTES,
    example={
        "prompt": "The bud opens into a flower",
        "image_url": "https://example.com/bud.png",
        "tail_image_url": "https://example.com/flower.png",
        "duration": "5",
    },
)
