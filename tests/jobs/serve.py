"""A gateway in a process of its own, to be killed: `python -m tests.jobs.serve`, settings from the environment."""

import asyncio
import os
import sys

import uvicorn

from app.main import create_app
from app.settings import load_settings
from tests.jobs.hand import until


async def main() -> None:
    server = uvicorn.Server(
        uvicorn.Config(create_app(load_settings(os.environ, env_file=None)), port=0, log_config=None)
    )
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started, seconds=20)
    sys.stdout.write(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await serving


if __name__ == "__main__":
    asyncio.run(main())
