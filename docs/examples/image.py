"""A video from a picture on disk: `fal_client.upload_file` would go to fal, so the file goes to the gateway."""

import os
import sys
from pathlib import Path

import fal_client
import httpx

headers = {"Authorization": f"Key {os.environ['FAL_KEY']}"}
file = Path(sys.argv[1])
image_url = httpx.post(f"{os.environ['URL']}/v1/files", files={"file": file.open("rb")}, headers=headers).json()["url"]
output = fal_client.subscribe(
    "fal-ai/kling-video/v2.1/master/image-to-video", {"prompt": "the camera moves closer", "image_url": image_url}
)
print(output["video"]["url"])
