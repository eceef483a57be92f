"""The gateway as `falgate serve` makes it, for uvicorn to import."""

from fastapi import FastAPI

from app.main import create_app
from app.settings import from_environment
from app.web.memory import settle_memory


def make() -> FastAPI:
    """From the environment alone."""
    app = create_app(from_environment(env_file=None))
    settle_memory()
    return app
