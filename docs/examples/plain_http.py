"""The same client to a gateway without TLS: two lines before its first call."""

import os

import fal_client
import fal_client.client

fal_client.client.QUEUE_URL_FORMAT = f"{os.environ['URL']}/fal/"
fal_client.client.RUN_URL_FORMAT = f"{os.environ['URL']}/fal/run/"

output = fal_client.run("fal-ai/kling-video/v2.1/master/text-to-video", {"prompt": "a paper boat on a quiet lake"})
print(output["video"]["url"])
