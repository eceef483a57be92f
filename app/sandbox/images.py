"""Just enough of PNG and JPEG to learn an image's shape."""

import base64
import binascii
import struct

PREFIX_CHARACTERS = 400_000  # of base64; a JPEG's thumbnail and profile can stand before its size
PNG_HEADER_BYTES = 24
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15 without DHT, JPG, DAC


def sniff_size(image_url: str) -> tuple[int, int] | None:
    """Return (width, height) of a PNG or JPEG given as a data URI; None for anything else."""
    head, comma, payload = image_url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    payload = payload[:PREFIX_CHARACTERS]
    try:
        content = base64.b64decode(payload[: len(payload) // 4 * 4])
    except (binascii.Error, ValueError):
        return None
    return size_of(content)


def size_of(content: bytes) -> tuple[int, int] | None:
    """Return (width, height) of the bytes of a PNG or JPEG; None for anything else."""
    size = _png_size(content) or _jpeg_size(content)
    return size if size and min(size) > 0 else None


def _png_size(content: bytes) -> tuple[int, int] | None:
    if len(content) < PNG_HEADER_BYTES or not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    if not content.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:  # noqa: PLR2004 - the byte that opens a marker
        if content[at + 1] in JPEG_FRAMES:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return None
