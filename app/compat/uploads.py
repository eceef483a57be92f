"""fal's upload initiation (FAL.md 5)."""

from starlette.requests import Request
from starlette.responses import Response

from app.problems import NotFound


async def answer_initiate(request: Request) -> Response:
    """`{content_type, file_name}` → `{upload_url, file_url}`."""
    del request
    raise NotFound("Not yet.")
