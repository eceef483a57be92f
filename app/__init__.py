"""falgate: a self-hosted gateway in front of fal's queue."""

__version__ = "0.1.0"
