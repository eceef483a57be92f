"""Giving a video out: from OUTPUT_STORE where it is kept, else from fal, whole or in part, a piece at a time."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from app.fal import DownloadGone, DownloadTrouble, OutOfRange
from app.ids import show
from app.output_store import NotStored, StoreTrouble
from app.outputs.ranges import ByteRange
from app.outputs.types import safe_type, suffix_of
from app.problems import Problem
from app.wiring import Wiring

if TYPE_CHECKING:
    from app.output_store.store import OutputStore

log = logging.getLogger("falgate.outputs")

LINK_SECONDS: Final = 3600
"""How long a link into a bucket can be used."""
_FORBIDDEN: Final = 403
_RETRY_AFTER_SECONDS: Final = 5
_SANDBOXED: Final = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""For whoever opens the address itself: a player, and nothing that runs."""


class VideoLapsed(Problem):
    """fal keeps this video no longer, and this gateway has no copy of it.

    fal keeps videos for some days only: `expires_at` of a job says until when at least. Fetch them before, or ask
    whoever runs the gateway to keep copies (OUTPUT_STORE).
    """

    status = 410


class VideoUnavailable(Problem):
    """The place where the video lies did not give it just now.

    The video is not lost for that. Send the same request again after the seconds named in `Retry-After`; whoever runs
    the gateway finds the reason in its log under the `request_id`.
    """

    status = 502

    def __init__(self) -> None:
        headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)}
        super().__init__("Send the same request again in a moment.", headers=headers)


class RangeNotSatisfiable(Problem):
    """The video is shorter than the range that was asked for.

    `size_bytes` says how long it is, where that is known. Leave out the header `Range` to get the whole.
    """

    status = 416

    def __init__(self, size: int | None) -> None:
        headers = {} if size is None else {"Content-Range": f"bytes */{size}"}
        super().__init__(
            "Ask for a range that begins within the video, or for the whole.", headers=headers, size_bytes=size
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """Where the video of a job lies: at `url` and, if `path` is set, in OUTPUT_STORE too, `size_bytes` long."""

    job_id: UUID
    url: str
    told_type: str | None
    expires_at: datetime | None
    path: str | None
    content_type: str | None
    size_bytes: int | None
    sha256: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """An answer that has begun: send the `chunks`, and `close` it in any case."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncGenerator[bytes, None]
    close: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of a video; `if_range` as the header has it."""

    is_head: bool = False
    byte_range: ByteRange | None = None
    if_range: str | None = None


async def find_link(wiring: Wiring, video: Video) -> str | None:
    """Where anybody can have it without us: in the bucket for an hour, or at fal; None: nowhere.

    Raises VideoUnavailable.
    """
    if wiring.output_store is not None and video.path is not None:
        try:
            return await wiring.output_store.link(video.path, seconds=LINK_SECONDS)
        except StoreTrouble as trouble:
            raise _unavailable(wiring, "store", trouble) from None
    return video.url if wiring.downloads.may_name(video.url) else None


async def open_video(wiring: Wiring, video: Video, wanted: Wanted) -> Content:
    """Begin to answer. Raises VideoLapsed, VideoUnavailable or RangeNotSatisfiable."""
    if wiring.output_store is not None and video.path is not None:
        try:
            return await _open_kept(wiring, wiring.output_store, video, wanted)
        except NotStored:
            log.error("job_%s: its kept video is not where it was stored", video.job_id.hex)  # noqa: TRY400  no trace
    return await _open_at_fal(wiring, video, wanted)


async def _open_kept(wiring: Wiring, store: "OutputStore", video: Video, wanted: Wanted) -> Content:
    size, etag = video.size_bytes or 0, f'"{(video.sha256 or b"").hex()}"'
    part = wanted.byte_range if wanted.if_range in {None, etag} else None
    place = (0, size) if part is None else part.within(size)
    if place is None:
        raise RangeNotSatisfiable(size)
    start, end = place
    try:
        nothing = wanted.is_head or start == end
        chunks = _nothing() if nothing else await store.read(video.path or "", start=start, end=end)
    except StoreTrouble as trouble:
        raise _unavailable(wiring, "store", trouble) from None
    wiring.metrics.downloads.labels("store", "begun").inc()
    headers = {"Accept-Ranges": "bytes", "ETag": etag, "Content-Length": str(end - start)}
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return _content(video, video.content_type, headers, chunks, _close_nothing)


async def _open_at_fal(wiring: Wiring, video: Video, wanted: Wanted) -> Content:
    try:
        download = await wiring.downloads.open(
            video.url,
            method="HEAD" if wanted.is_head else "GET",
            byte_range=wanted.byte_range.header if wanted.byte_range else None,
            if_range=wanted.if_range,
        )
    except DownloadGone:
        raise _lapsed(wiring) from None
    except OutOfRange as out:
        raise RangeNotSatisfiable(out.size) from None
    except DownloadTrouble as trouble:
        # without the right to list, some stores say of what is not there any more that it is forbidden
        if trouble.code == _FORBIDDEN and video.expires_at is not None and video.expires_at <= wiring.clock():
            raise _lapsed(wiring) from None
        raise _unavailable(wiring, "fal", trouble) from None
    wiring.metrics.downloads.labels("fal", "begun").inc()
    headers = {"ETag": download.etag, "Last-Modified": download.last_modified}
    if download.length is not None:
        headers["Content-Length"] = str(download.length)
    if download.start is not None and download.length is not None:
        whole = "*" if download.total is None else download.total
        headers["Content-Range"] = f"bytes {download.start}-{download.start + download.length - 1}/{whole}"
        headers["Accept-Ranges"] = "bytes"
    told = {name: value for name, value in headers.items() if value is not None}
    content_type = safe_type(download.content_type, video.told_type)
    return _content(video, content_type, told, download.chunks(), download.aclose)


def _content(
    video: Video,
    content_type: str | None,
    headers: Mapping[str, str],
    chunks: AsyncGenerator[bytes, None],
    close: Callable[[], Awaitable[None]],
) -> Content:
    content_type = safe_type(content_type)
    named = {
        "Content-Type": content_type,
        "Content-Disposition": f'inline; filename="{show("job", video.job_id)}.{suffix_of(content_type)}"',
        "Content-Security-Policy": _SANDBOXED,
    }
    return Content(
        status=206 if "Content-Range" in headers else 200, headers={**named, **headers}, chunks=chunks, close=close
    )


def _lapsed(wiring: Wiring) -> VideoLapsed:
    wiring.metrics.downloads.labels("fal", "lapsed").inc()
    return VideoLapsed("Ask for a new video: fal has let go of this one.")


def _unavailable(wiring: Wiring, source: str, trouble: Exception) -> VideoUnavailable:
    wiring.metrics.downloads.labels(source, "trouble").inc()
    log.warning("a video could not be read from %s: %s", source, trouble)
    return VideoUnavailable()


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield b""


async def _close_nothing() -> None:
    """A file of the store is not open between two pieces."""
