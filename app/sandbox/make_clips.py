"""Make the sandbox's clips from nothing but ffmpeg's own sources: `python -m app.sandbox.make_clips`.

A warm light circling over a slowly turning dusk sky, and a thin line that grows with the time, so that a
viewer sees at once whether all seconds are there. Baseline H.264, yuv420p and the index in front: every
browser plays it while it loads.
"""

import subprocess
import sys

from app.sandbox.clips import CLIPS, FOLDER, SIZES, Clip

FRAMES_PER_SECOND = 24
QUIETLY = ("-hide_banner", "-loglevel", "error", "-y")
ENCODED = (
    *("-c:v", "libx264", "-profile:v", "baseline", "-level", "3.0"),
    *("-preset", "veryslow", "-crf", "36", "-g", "120", "-movflags", "+faststart"),
)
REPEATABLE = ("-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1")


def draw_scene(width: int, height: int, seconds: int) -> str:
    """Return the ffmpeg filter graph of one clip; its output is `[out]`."""
    each = f"r={FRAMES_PER_SECOND}:d={seconds}"
    glow_radius = (width + height) // 5
    sky = (
        f"gradients=s={width}x{height}:{each}:n=4:c0=0x10163a:c1=0x4b2a86:c2=0xd9486e:c3=0xf7b267"
        f":x0=0:y0=0:x1={width}:y1={height}:speed=0.006:type=linear:seed=2"
    )
    glow = (
        f"gradients=s={width * 2}x{height * 2}:{each}:n=3:c0=0xfff1d0:c1=0x5a3550:c2=0x000000"
        f":x0={width}:y0={height}:x1={width}:y1={height + glow_radius}:speed=0.00001:type=radial:seed=2"
    )
    circle = (
        f"crop={width}:{height}:x='(iw-ow)/2+0.3*ow*sin(2*PI*t/{seconds})':y='(ih-oh)/2+0.2*oh*cos(2*PI*t/{seconds})'"
    )
    return (
        f"{sky},format=gbrp[sky];{glow},{circle},format=gbrp[glow];"
        f"[sky][glow]blend=all_mode=screen,vignette=PI/6:dither=0[scene];"
        f"color=c=white@0.8:s={width}x4:{each},format=rgba[line];"
        f"[scene][line]overlay=x='-w+w*t/{seconds}':y=H-h:shortest=1,format=yuv420p[out]"
    )


def make_clip(ffmpeg: str, clip: Clip) -> None:
    """Write one clip; the same ffmpeg writes the same bytes again."""
    width, height = SIZES[clip.aspect_ratio]
    scene = ["-filter_complex", draw_scene(width, height, clip.seconds), "-map", "[out]"]
    length = ["-t", str(clip.seconds)]
    command = [ffmpeg, *QUIETLY, *scene, *ENCODED, *REPEATABLE, *length, str(clip.path)]
    subprocess.run(command, check=True)  # noqa: S603 - the imageio-ffmpeg wheel's binary, arguments all ours


def main() -> None:
    """Make all of them."""
    import imageio_ffmpeg  # noqa: PLC0415 - a development tool; the sandbox itself runs without it

    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    FOLDER.mkdir(exist_ok=True)
    for clip in CLIPS:
        make_clip(ffmpeg, clip)
        sys.stdout.write(f"{clip.path} {clip.path.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
