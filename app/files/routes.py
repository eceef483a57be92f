"""`POST /v1/files`: an image of the caller's, for `image_url`."""

from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.files.owners import find_owner
from app.files.stored import File, store_upload
from app.files.uploads import reading_upload
from app.http import PlainRoute, json_response
from app.problems import responses
from app.wiring import wiring_of

router: Final = APIRouter(route_class=PlainRoute, tags=["files"])

_BODY: Final[dict[str, Any]] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "additionalProperties": False,
                "properties": {"file": {"type": "string", "format": "binary", "description": "A PNG or a JPEG."}},
            }
        }
    },
}


@router.post(
    "/v1/files",
    status_code=201,
    operation_id="create_file",
    summary="Upload an image",
    response_model=File,
    responses=responses(401, 403, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": _BODY, "security": [{"key": []}, {"token": []}]},
)
async def create_file(request: Request) -> Response:
    """Put one image into fal's storage; then give its `url` as `image_url`.

    `curl -F file=@cat.png "$URL/v1/files" -H "Authorization: Bearer $KEY"`

    What it is, its bytes say: a name or a Content-Type that says otherwise is refused.
    """
    owner = await find_owner(request)
    wiring = wiring_of(request)
    catalogue = wiring.catalogue
    async with reading_upload(request, types=catalogue.image_types, most_bytes=catalogue.image_bytes) as upload:
        file = await store_upload(wiring, owner, upload)
    return json_response(file.model_dump_json(), status=201)
