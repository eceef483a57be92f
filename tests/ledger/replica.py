"""A replica in a process of its own: `python -m tests.ledger.replica` with FAL_KEY, DATABASE_URL and ADMIN_KEY set.

It sends nothing to fal. Prints its URL; ends when its standard input does.
"""

import asyncio
import os
import sys

import uvicorn

from app.main import create_app
from app.settings import load_settings


async def main() -> None:
    app = create_app(load_settings(os.environ, env_file=None), work=False)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  uvicorn tells it no other way
        await asyncio.sleep(0.01)
    print(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
