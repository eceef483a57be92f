"""Kling 2.1 Master, image to video, as fal documents it (FAL.md 7.1, 7.2)."""

from app.catalogue.endpoint import Endpoint
from app.catalogue.kling import IMAGE_BYTES, IMAGE_TYPES, ImageToVideo, five_seconds, seconds_of


class ImageToVideoV21MasterRequest(ImageToVideo):
    """fal's `ImageToVideoV21MasterRequest`."""


ENDPOINT = Endpoint(
    id="fal-ai/kling-video/v2.1/master/image-to-video",
    model="kling-2.1-master",
    category="image-to-video",
    input=ImageToVideoV21MasterRequest,
    seconds=seconds_of,
    prices=(five_seconds("1.40", then="0.28"),),
    image_fields=("image_url",),
    image_types=IMAGE_TYPES,
    image_bytes=IMAGE_BYTES,
    example={
        "prompt": "The dice begin to roll",
        "image_url": "https://example.com/dice.png",
        "duration": "5",
    },
)
