"""What goes wrong, as fal's client tells it; a quota that blocks is a 402, sent once."""

import sys

import fal_client

try:
    fal_client.subscribe("fal-ai/kling-video/v2.1/master/text-to-video", {"prompt": sys.argv[1]})
except fal_client.FalClientHTTPError as error:
    print(error.status_code, error.error_type, error.message)
