"""The gateway as `falgate serve` makes it, for uvicorn to import."""

from fastapi import FastAPI

from app.main import create_app
from app.settings import from_environment


def make() -> FastAPI:
    """From the environment alone."""
    return create_app(from_environment(env_file=None))
