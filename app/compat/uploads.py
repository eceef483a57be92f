"""fal's upload initiation: how a JavaScript client gets an image to fal before it submits (FAL.md 5).

The client asks here where to put the image, and then puts it there itself, without any key. So what the bytes are
nobody here sees; what is accounted for is that this user asked.
"""

from typing import Annotated, Final

from fastapi import APIRouter
from pydantic import Field, ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from app.files.owners import find_owner
from app.files.stored import initiate_file
from app.files.uploads import clean_name
from app.http import Body, json_response, parse_json
from app.problems import BodyTooLarge, InvalidInput, NotFound, input_faults
from app.wiring import Wiring, wiring_of

router: Final = APIRouter(include_in_schema=False)

_PYTHON: Final = (
    "This part of fal's storage is not served here: POST the file to /v1/files, or give it as fal_client.encode_file "
    "does, as a data URI."
)


class Initiation(Body):
    """What the client says of the file that it is going to put."""

    content_type: Annotated[str, Field(max_length=100)]
    file_name: Annotated[str, Field(max_length=1000)] = ""


@router.post("/fal/storage/upload/initiate")
async def answer_initiate(request: Request) -> Response:
    """`{content_type, file_name}` → `{upload_url, file_url}`, for an image of a type that some endpoint takes.

    Raises what `find_owner` and `initiate_file` raise, NotJson and InvalidInput.
    """
    owner = await find_owner(request)
    wiring = wiring_of(request)
    asked = _read(await request.body())
    if asked.content_type not in wiring.catalogue.image_types:
        taken = ", ".join(sorted(wiring.catalogue.image_types))
        raise InvalidInput([{"pointer": "/content_type", "detail": f"must be one of {taken}: the type of the Blob"}])
    name = clean_name(asked.file_name, asked.content_type)
    room = await initiate_file(wiring, owner, name=name, content_type=asked.content_type)
    return json_response(to_json({"upload_url": room.upload_url, "file_url": room.file_url}).decode())


@router.api_route("/fal/storage/{rest:path}", methods=["GET", "POST", "PUT"])
async def answer_other(request: Request) -> Response:
    """All else of fal's storage is refused, with a sentence."""
    await find_owner(request)
    refuse_parts(request.path_params["rest"], wiring_of(request))
    raise NotFound(_PYTHON)


def refuse_parts(path: str, wiring: Wiring) -> None:
    """Raise BodyTooLarge for an upload in parts (`path` is below `storage/`): so go files over 90 MB (FAL.md 5)."""
    if path.endswith("-multipart"):
        most = wiring.catalogue.image_bytes
        raise BodyTooLarge(
            f"Upload a smaller file: no endpoint takes one of more than {most} bytes, and none comes in parts.",
            limit_bytes=most,
        )


def _read(body: bytes) -> Initiation:
    try:
        return Initiation.model_validate(parse_json(body))
    except ValidationError as error:
        raise InvalidInput(input_faults(error.errors(include_url=False, include_input=False))) from None
