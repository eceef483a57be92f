"""So many callers, each asking ten times for the status of one job with fal-client; prints the kinds they saw."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import fal_client

ENDPOINT = "fal-ai/kling-video/v2.1/master/text-to-video"
TIMES = 10


def main(callers: int, request_id: str) -> None:
    begin = threading.Barrier(callers)

    def watch(_: int) -> list[str]:
        client = fal_client.SyncClient()
        begin.wait(20)
        return [type(client.status(ENDPOINT, request_id, with_logs=True)).__name__ for _ in range(TIMES)]

    with ThreadPoolExecutor(callers) as pool:
        seen = [kind for kinds in pool.map(watch, range(callers)) for kind in kinds]
    json.dump({"seen": seen}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
