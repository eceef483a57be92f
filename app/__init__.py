"""falgate: a self-hosted gateway in front of fal's queue."""
