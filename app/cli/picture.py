"""A small real PNG, made on the spot: the demo's image."""

import base64
import struct
import zlib
from typing import Final

SIDE: Final = 320  # fal asks for 300 at least


def data_uri() -> str:
    """The picture as callers send one without hosting it."""
    return "data:image/png;base64," + base64.b64encode(png()).decode()


def png(side: int = SIDE) -> bytes:
    """A square in which red grows to the right, green downwards, over a steady blue."""
    steps = [255 * place // (side - 1) for place in range(side)]
    rows = b"".join(b"\0" + b"".join(bytes((red, green, 160)) for red in steps) for green in steps)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)  # 8 bits each of red, green, blue
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
