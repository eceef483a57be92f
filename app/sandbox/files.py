"""The finished videos, as fal's public CDN serves them: without a key, with ranges (FAL.md 5)."""

from starlette.responses import FileResponse

from app.sandbox.answers import json_answer
from app.sandbox.box import Box
from app.sandbox.calls import Call
from app.sandbox.clips import BY_NAME
from app.sandbox.wire import deliver

FOLDER = "files/"
# A page on another origin may draw the video on a canvas or fetch it.
OPEN_TO_PAGES = {"access-control-allow-origin": "*", "cache-control": "public, max-age=3600"}


async def send_file(box: Box, call: Call) -> None:
    """Send `/files/{clip}` or `/files/{request id}/{clip}`; the id only makes each job's URL its own."""
    folder, _, name = call.path.rpartition("/")
    clip, job = BY_NAME.get(name), box.jobs.get(folder.removeprefix(FOLDER))
    if clip is None or (job is not None and job.erased) or call.method not in ("GET", "HEAD"):
        await deliver(call, json_answer(404, {"detail": "File not found"}))
        return
    response = FileResponse(clip.path, media_type="video/mp4", headers=OPEN_TO_PAGES)
    await response(call.scope, call.receive, call.send)
