"""A video with fal's own Python client; where it goes is set outside the program."""

import fal_client

output = fal_client.subscribe(
    "fal-ai/kling-video/v2.1/master/text-to-video",
    {"prompt": "a paper boat on a quiet lake", "duration": "5"},
    with_logs=True,
    on_enqueue=print,
    on_queue_update=lambda status: print(type(status).__name__),
)
print(output["video"]["url"])
