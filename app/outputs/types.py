"""What a video may be called: only what a browser plays or shows, and nothing that it would run."""

from typing import Final

_SUFFIXES: Final = {
    "video/mp4": "mp4",
    "video/webm": "webm",
    "video/quicktime": "mov",
    "image/gif": "gif",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
}


def safe_type(*told: str | None) -> str:
    """The first of these that is safe to answer with; `video/mp4` where none was told, else plain bytes."""
    names = [name.partition(";")[0].strip().lower() for name in told if name]
    for name in names:
        if name in _SUFFIXES:
            return name
    return "application/octet-stream" if names else "video/mp4"


def suffix_of(content_type: str) -> str:
    """What a file of this type is called at its end."""
    return _SUFFIXES.get(content_type, "bin")
