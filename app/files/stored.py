"""Files: images that callers put into fal's storage through us, each with its owner.

A file's row comes before fal is asked, so that nothing is passed on that is not counted; its `url` is empty until fal
has named it, and stays so when fal does not. What lies at fal without a row that says where costs nothing: fal lets
go of it in its own time.
"""

import logging
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, insert, select, update

from app.accounts.fields import Moment
from app.accounts.tables import users
from app.db import Database
from app.fal import Initiated, RefusedUs, Stored, Trouble
from app.files.owners import Owner
from app.files.tables import files
from app.files.uploads import Upload
from app.ids import FileId, first_id, new_id, show
from app.problems import Problem
from app.wiring import Wiring

log = logging.getLogger("falgate.files")

MOST_AN_HOUR: Final = 1_000
"""Files that one user may add within an hour: more than fal can make videos of."""

_HOUR: Final = timedelta(hours=1)
_LATER_SECONDS: Final = 30
_LATEST_SECONDS: Final = 3600


class TooManyFiles(Problem):
    """Your user has added as many files within an hour as one may.

    `limit` says how many that is. Nothing was stored: send it again after the seconds named in `Retry-After`, or give
    the image as an https link or a data URI.
    """

    status = 429


class StorageAway(Problem):
    """fal's storage, where files are kept, takes none just now.

    It is nothing that you did; whoever runs the gateway finds the reason in its log. Nothing was stored: send the file
    again after the seconds named in `Retry-After`, or give the image as an https link or a data URI.
    """

    status = 503


class File(BaseModel):
    """An image in fal's storage. Anybody who has the `url` can read it, for as long as fal keeps it."""

    model_config = ConfigDict(hide_input_in_errors=True)

    id: FileId
    url: Annotated[
        str, Field(description="Give it as `image_url`, or another image.", json_schema_extra={"format": "uri"})
    ]
    content_type: Annotated[str, Field(examples=["image/png"])]
    size_bytes: int
    sha256: Annotated[str, Field(description="Of its bytes, in hex.")]
    name: Annotated[str, Field(description="As fal was told it.", examples=["cat.png"])]
    created_at: Moment


async def store_upload(wiring: Wiring, owner: Owner, upload: Upload) -> File:
    """Put it into fal's storage. Raises TooManyFiles and StorageAway."""
    now = wiring.clock()
    file_id, room = await _initiate(
        wiring, owner, name=upload.name, content_type=upload.content_type, now=now, upload=upload
    )
    putting = wiring.storage.put(
        room.upload_url, upload.chunks(), size_bytes=upload.size_bytes, content_type=upload.content_type
    )
    stored = wiring.metrics.saw_fal("put", await putting)
    if not isinstance(stored, Stored):
        raise _away(stored)
    await _say_where(wiring.db, file_id, room.file_url)
    return File(
        id=file_id,
        url=room.file_url,
        content_type=upload.content_type,
        size_bytes=upload.size_bytes,
        sha256=upload.sha256.hex(),
        name=upload.name,
        created_at=now,
    )


async def initiate_file(wiring: Wiring, owner: Owner, *, name: str, content_type: str) -> Initiated:
    """Room at fal that the caller fills itself, so its size is not known. Raises TooManyFiles and StorageAway."""
    file_id, room = await _initiate(wiring, owner, name=name, content_type=content_type, now=wiring.clock())
    await _say_where(wiring.db, file_id, room.file_url)
    return room


async def _initiate(
    wiring: Wiring, owner: Owner, *, name: str, content_type: str, now: datetime, upload: Upload | None = None
) -> tuple[UUID, Initiated]:
    file_id = new_id(now)
    row: dict[str, object] = {"id": file_id, "name": name, "content_type": content_type, "url": "", "created_at": now}
    if upload is not None:
        row |= {"size_bytes": upload.size_bytes, "sha256": upload.sha256}
    await _count_in(wiring.db, owner, row, now=now)
    outcome = wiring.metrics.saw_fal("initiate", await wiring.storage.initiate(content_type=content_type, name=name))
    if isinstance(outcome, Initiated):
        return file_id, outcome
    raise _away(outcome)


async def _count_in(db: Database, owner: Owner, row: Mapping[str, object], *, now: datetime) -> None:
    """Insert it if the user has room for one more: those of one user wait for each other here."""
    of_user = select(func.count(), func.min(files.c.created_at)).where(
        files.c.user_id == owner.user_id, files.c.id >= first_id(now - _HOUR)
    )
    async with db.begin() as tx:
        await tx.execute(select(users.c.id).where(users.c.id == owner.user_id).with_for_update(key_share=True))
        count, oldest = (await tx.execute(of_user)).one()
        if count >= MOST_AN_HOUR:
            seconds = math.ceil((oldest + _HOUR - now).total_seconds())
            raise TooManyFiles(
                f"At most {MOST_AN_HOUR} files an hour; send this one again later.",
                headers={"Retry-After": str(max(1, seconds))},
                limit=MOST_AN_HOUR,
            )
        await tx.execute(
            insert(files).values(
                **row, user_id=owner.user_id, team_id=owner.team_id, key_id=owner.key_id, end_user=owner.end_user
            )
        )


async def _say_where(db: Database, file_id: UUID, url: str) -> None:
    try:
        async with db.begin() as tx:
            await tx.execute(update(files).where(files.c.id == file_id).values(url=url))
    except Exception:
        shown = show("file", file_id)
        log.exception("fal keeps %s, but its row could not say where; harmless, as its caller sends it again", shown)
        raise


def _away(outcome: RefusedUs | Trouble) -> StorageAway:
    """What the caller hears; why, the operator reads in the log."""
    if isinstance(outcome, RefusedUs):
        log.error("fal's storage refuses FAL_KEY (%d): %s Uploads are answered 503.", outcome.code, outcome.reason)
    else:
        log.warning("fal's storage did not take a file: %s", outcome.reason)
    seconds = min(outcome.retry_after_seconds or _LATER_SECONDS, _LATEST_SECONDS)
    return StorageAway(
        "Send it again in a moment, or give the image as an https link or a data URI.",
        headers={"Retry-After": str(max(1, seconds))},
    )
