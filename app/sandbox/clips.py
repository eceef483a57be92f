"""The videos that the sandbox hands out: one per aspect ratio and length, made by `make_clips`."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "clips"
SIZES = {"16:9": (480, 270), "9:16": (270, 480), "1:1": (360, 360)}
LENGTHS_SECONDS = (5, 10)
LONGEST_SHORT_SECONDS = 7.5  # other models take other durations: whichever length is nearer


@dataclass(frozen=True, slots=True)
class Clip:
    """One of our videos."""

    aspect_ratio: str
    seconds: int

    @property
    def name(self) -> str:
        """Its file name."""
        return f"{self.aspect_ratio.replace(':', 'x')}-{self.seconds}s.mp4"

    @property
    def path(self) -> Path:
        """Where it lies."""
        return FOLDER / self.name


CLIPS = tuple(Clip(aspect_ratio, seconds) for aspect_ratio in SIZES for seconds in LENGTHS_SECONDS)
BY_NAME = {clip.name: clip for clip in CLIPS}


def choose_clip(aspect_ratio: str, seconds: float) -> Clip:
    """Return the clip of that aspect ratio (else 16:9) and of the nearer length."""
    known = aspect_ratio if aspect_ratio in SIZES else "16:9"
    return Clip(known, 5 if seconds <= LONGEST_SHORT_SECONDS else 10)


def nearest_aspect_ratio(width: int, height: int) -> str:
    """Return the aspect ratio of ours that an image of this size is closest to."""
    shape = width / height

    def distance(aspect_ratio: str) -> float:
        own = SIZES[aspect_ratio][0] / SIZES[aspect_ratio][1]
        return max(own / shape, shape / own)

    return min(SIZES, key=distance)
