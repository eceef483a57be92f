"""Lists: newest first, by id, one page at a time."""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select

from app.db import Tx, rows_as_dicts
from app.http import ListQuery
from app.ids import parse, show


async def newest(
    tx: Tx, statement: Select[Any], id_column: ColumnElement[UUID], query: ListQuery, *, prefix: str
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of rows and the cursor of the next, None on the last page; rows added meanwhile move nothing."""
    after = parse(prefix, query.cursor) if query.cursor is not None else None
    if after is not None:
        statement = statement.where(id_column < after)
    found = await tx.execute(statement.order_by(id_column.desc()).limit(query.limit + 1))
    rows = rows_as_dicts(found)
    page = rows[: query.limit]
    return page, show(prefix, page[-1]["id"]) if len(rows) > query.limit else None
