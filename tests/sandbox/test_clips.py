"""The clips are what they claim to be, read from their own boxes, and are served as a CDN serves them."""

import struct
from collections.abc import Iterator

import pytest

from app.sandbox.clips import CLIPS, SIZES, Clip

from .running import Sandbox

LARGEST_BYTES = 60_000


def read_boxes(content: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        yield name.decode(), content[at + 8 : at + size]
        at += size


def find_box(content: bytes, *path: str) -> bytes:
    for name in path:
        content = dict(read_boxes(content))[name]
    return content


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_a_clip_has_its_shape_and_length(clip: Clip) -> None:
    content = clip.path.read_bytes()
    names = [name for name, _ in read_boxes(content)]
    assert names[0] == "ftyp"
    assert names.index("moov") < names.index("mdat"), "a browser could not begin before the end"
    assert len(content) < LARGEST_BYTES

    timescale, duration = struct.unpack(">II", find_box(content, "moov", "mvhd")[12:20])
    assert duration / timescale == pytest.approx(clip.seconds, abs=0.05)

    width, height = struct.unpack(">II", find_box(content, "moov", "trak", "tkhd")[-8:])
    assert (width >> 16, height >> 16) == SIZES[clip.aspect_ratio]
    across, down = map(int, clip.aspect_ratio.split(":"))
    assert (width >> 16) * down == (height >> 16) * across

    sample = find_box(content, "moov", "trak", "mdia", "minf", "stbl", "stsd")
    assert sample[12:16] == b"avc1"


def test_a_finished_job_s_url_gives_its_video(sandbox: Sandbox) -> None:
    request_id = sandbox.start("a cat", aspect_ratio="9:16", duration="10")
    sandbox.move(request_id, "COMPLETED")
    result = sandbox.call(request_id)
    video = result.json()["video"]
    assert result.headers["x-fal-billable-units"] == "10"
    assert video["url"].startswith(f"{sandbox.url}/files/{request_id}/")
    answer = sandbox.http.get(video["url"], headers={"authorization": ""})
    assert answer.headers["content-type"] == video["content_type"] == "video/mp4"
    assert answer.content == Clip("9:16", 10).path.read_bytes()
    assert len(answer.content) == video["file_size"]


def test_a_player_can_ask_for_a_range(sandbox: Sandbox) -> None:
    answer = sandbox.http.get("/files/1x1-5s.mp4", headers={"range": "bytes=4-7"})
    assert (answer.status_code, answer.content) == (206, b"ftyp")
    head = sandbox.http.head("/files/1x1-5s.mp4")
    assert head.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize("name", ["no.mp4", "../clips.py", "", "16x9-5s.mp4/.."])
def test_nothing_else_is_served(sandbox: Sandbox, name: str) -> None:
    assert sandbox.http.get(f"/files/{name}").status_code == 404
