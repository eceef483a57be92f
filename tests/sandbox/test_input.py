"""The input rules of the models (FAL.md 7.2, 7.3), the image's shape, and what is kept of an input."""

import base64
import struct
import zlib
from typing import Any

import pytest

from app.sandbox.clips import choose_clip, nearest_aspect_ratio
from app.sandbox.images import sniff_size
from app.sandbox.jobs import abbreviate
from app.sandbox.validation import VEO, asked_seconds, find_problems

from .running import IMAGE, TEXT, Sandbox

LAST = "fal-ai/kling-video/v2.1/pro/image-to-video"
SOUND = "fal-ai/kling-video/v2.6/pro/image-to-video"


def make_png(width: int, height: int) -> str:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return "data:image/png;base64," + base64.b64encode(content).decode()


def make_jpeg(width: int, height: int) -> str:
    profile = b"\xff\xe0" + struct.pack(">H", 16) + bytes(14)
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes(3)
    return "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8" + profile + frame).decode()


@pytest.mark.parametrize(
    ("endpoint", "given", "expected"),
    [
        (TEXT, {}, [("prompt", "missing")]),
        (TEXT, {"prompt": 5}, [("prompt", "string_type")]),
        (TEXT, {"prompt": "x", "duration": 5}, [("duration", "one_of")]),
        (TEXT, {"prompt": "x", "duration": "7"}, [("duration", "one_of")]),
        (TEXT, {"prompt": "x", "aspect_ratio": "4:3"}, [("aspect_ratio", "one_of")]),
        (TEXT, {"prompt": "x", "negative_prompt": "x" * 2501}, [("negative_prompt", "sequence_too_long")]),
        (TEXT, {"prompt": "x", "cfg_scale": 1.5}, [("cfg_scale", "less_than_equal")]),
        (TEXT, {"prompt": "x", "cfg_scale": -1}, [("cfg_scale", "greater_than_equal")]),
        (TEXT, {"prompt": "x", "cfg_scale": True}, [("cfg_scale", "float_type")]),
        (TEXT, {"duration": "6", "cfg_scale": 2}, [("prompt", ""), ("duration", ""), ("cfg_scale", "")]),
        (IMAGE, {"prompt": "x"}, [("image_url", "missing")]),
        (IMAGE, {"prompt": "x", "image_url": "cat.png"}, [("image_url", "file_download_error")]),
        (IMAGE, {"prompt": "x", "image_url": 7}, [("image_url", "string_type")]),
        (IMAGE, {"prompt": "x", "image_url": make_png(300, 300), "aspect_ratio": "odd"}, []),
        (TEXT, {"prompt": "x" * 2500, "duration": "10", "aspect_ratio": "1:1", "cfg_scale": 0}, []),
        (LAST, {"prompt": "x", "image_url": "https://x", "tail_image_url": "cat"}, [("tail_image_url", "")]),
        (LAST, {"prompt": "x", "image_url": "https://x", "tail_image_url": None}, [("tail_image_url", "string_type")]),
        (LAST, {"prompt": "x", "image_url": "https://x", "tail_image_url": "https://y"}, []),
        (SOUND, {"prompt": "x", "image_url": "https://x"}, [("start_image_url", "missing")]),
        (
            SOUND,
            {"prompt": "x", "start_image_url": "https://x", "generate_audio": 1},
            [("generate_audio", "bool_type")],
        ),
        (VEO, {"prompt": "x", "duration": "5"}, [("duration", "one_of")]),
        (VEO, {"prompt": "x", "seed": 1.5, "auto_fix": "yes"}, [("seed", "int_type"), ("auto_fix", "bool_type")]),
        (VEO, {"prompt": "x" * 20_000, "duration": "4s", "resolution": "4k", "safety_tolerance": "6", "seed": 7}, []),
        ("kling/v4/text-to-video", {"prompt": "x", "duration": 12}, []),
    ],
)
def test_every_problem_is_found(endpoint: str, given: Any, expected: list[tuple[str, str]]) -> None:
    found = find_problems(endpoint, given)
    assert [problem["loc"] for problem in found] == [["body", name] for name, _ in expected]
    for problem, (_, kind) in zip(found, expected, strict=True):
        assert problem["type"] == kind or not kind


def test_an_input_is_an_object() -> None:
    assert find_problems(TEXT, ["prompt"])[0]["loc"] == ["body"]


@pytest.mark.parametrize(
    ("duration", "seconds"), [("5", 5), ("10", 10), ("8s", 8), (7, 7), ("auto", 5), (None, 5), ("nan", 5)]
)
def test_durations_of_all_models_are_understood(duration: Any, seconds: float) -> None:
    assert asked_seconds(TEXT, {"duration": duration}) == seconds


def test_a_duration_that_was_left_out_is_the_models_own() -> None:
    assert [asked_seconds(endpoint, {"prompt": "x"}) for endpoint in (TEXT, VEO)] == [5, 8]


@pytest.mark.parametrize("make", [make_png, make_jpeg])
def test_an_image_tells_its_size(make: Any) -> None:
    assert sniff_size(make(640, 360)) == (640, 360)


@pytest.mark.parametrize(
    "given",
    ["https://example.com/cat.png", "data:image/png;base64,AAAA", "data:image/png;base64,%", "data:,x"],
)
def test_what_is_no_image_has_no_size(given: str) -> None:
    assert sniff_size(given) is None


@pytest.mark.parametrize(("size", "aspect_ratio"), [((1920, 1080), "16:9"), ((300, 310), "1:1"), ((720, 1600), "9:16")])
def test_the_nearest_shape_is_taken(size: tuple[int, int], aspect_ratio: str) -> None:
    assert nearest_aspect_ratio(*size) == aspect_ratio


def test_an_unknown_shape_becomes_a_wide_clip() -> None:
    assert choose_clip("21:9", 8).name == "16x9-10s.mp4"


def test_a_long_text_is_kept_by_its_beginning() -> None:
    kept = abbreviate({"image_url": "data:image/png;base64," + "A" * 5_000_000, "prompt": ["x"]})
    assert len(kept["image_url"]) < 200
    assert "5000022 characters, sha256=" in kept["image_url"]
    assert kept["prompt"] == ["x"]


def test_a_video_from_an_image_has_the_image_s_shape(sandbox: Sandbox) -> None:
    request_id = sandbox.start("a cat", endpoint=IMAGE, image_url=make_jpeg(400, 700), duration="10")
    sandbox.move(request_id, "COMPLETED")
    assert sandbox.call(request_id).json()["video"]["file_name"] == "9x16-10s.mp4"
