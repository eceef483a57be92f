"""Kling 2.6 Pro, text to video, with sound unless it is asked for without: the dear choice is the default.

Price: fal.ai/models/fal-ai/kling-video/v2.6/pro/text-to-video/llms.txt ("$0.07 (audio off) or $0.14 (audio on)" for
every second). Input: the same page and `@fal-ai/client` 1.10.1 types/endpoints.d.ts:17456. The greatest length of the
prompts is that of its sibling (`ImageToVideoV26ProRequest`).
"""

from app.catalogue.endpoint import Endpoint, each_second
from app.catalogue.kling import TextToVideo, seconds_of


class TextToVideoV26ProRequest(TextToVideo):
    """fal's `TextToVideoV26ProRequest`."""

    generate_audio: bool = True


ENDPOINT = Endpoint(
    id="fal-ai/kling-video/v2.6/pro/text-to-video",
    model="kling-2.6-pro",
    category="text-to-video",
    input=TextToVideoV26ProRequest,
    seconds=seconds_of,
    prices=(
        each_second("0.14", generate_audio=True),
        each_second("0.07", generate_audio=False),
    ),
    example={
        "prompt": "Old friends meet at a station; one asks: is that really you? Steam hisses",
        "duration": "5",
        "generate_audio": True,
    },
)
