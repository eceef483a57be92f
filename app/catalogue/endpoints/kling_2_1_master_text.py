"""Kling 2.1 Master, text to video, as fal documents it (FAL.md 7.1, 7.2)."""

from app.catalogue.endpoint import Endpoint
from app.catalogue.kling import TextToVideo, five_seconds, seconds_of


class TextToVideoV21MasterRequest(TextToVideo):
    """fal's `TextToVideoV21MasterRequest`."""


ENDPOINT = Endpoint(
    id="fal-ai/kling-video/v2.1/master/text-to-video",
    model="kling-2.1-master",
    category="text-to-video",
    input=TextToVideoV21MasterRequest,
    seconds=seconds_of,
    prices=(five_seconds("1.40", then="0.28"),),
    example={
        "prompt": "A paper boat crosses a puddle at dawn, slow dolly shot",
        "duration": "5",
    },
)
