"""Which endpoint ids are served, and how fal shortens them (FAL.md 1.2)."""

NAMESPACES = frozenset({"workflows", "comfy"})
VERBS = frozenset({"text-to-video", "image-to-video"})
FAMILIES = ("fal-ai/kling-video/",)
# Served although their id does not end in a verb (FAL.md 7.3).
OTHERS = frozenset({"fal-ai/veo3.1", "fal-ai/veo3.1/fast", "fal-ai/ltx-video-13b-distilled"})


def is_served(endpoint: str) -> bool:
    """Tell whether a job for this endpoint is taken: the Kling family, any …-to-video, or one of `OTHERS`."""
    segments = endpoint.split("/")
    if len(segments) < segments_of_alias(segments) or not all(segments):
        return False
    return segments[-1] in VERBS or endpoint.startswith(FAMILIES) or endpoint in OTHERS


def segments_of_alias(segments: list[str]) -> int:
    """Return how many segments survive submit: two, or three behind a namespace (FAL.md 1.2)."""
    return 3 if segments[0] in NAMESPACES else 2


def alias_of(endpoint: str) -> str:
    """Return what the URLs of its requests begin with, e.g. `fal-ai/kling-video` (FAL.md 1.2)."""
    segments = endpoint.split("/")
    return "/".join(segments[: segments_of_alias(segments)])
