"""Ids: a prefix that names the thing, and 32 hex digits that sort by the moment they were made."""

import re
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_HEX: Final = re.compile(r"[0-9a-f]{32}")


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def new_id(now: datetime) -> UUID:
    """A UUID of version 7 (RFC 9562) made at `now`: 48 bits of milliseconds, 74 random bits."""
    bits = secrets.randbits(74)
    return UUID(
        int=(_milliseconds(now) << 80) | (0x7 << 76) | ((bits >> 62) << 64) | (0b10 << 62) | (bits & ((1 << 62) - 1))
    )


def first_id(moment: datetime) -> UUID:
    """The least id that `new_id` can give at `moment`: a period of time becomes a range of ids."""
    return UUID(int=max(0, _milliseconds(moment)) << 80)


def show(prefix: str, made: UUID) -> str:
    """`job`, UUID(…) → `job_0190…`: how an id is written everywhere outside the database."""
    return f"{prefix}_{made.hex}"


def sql_show(prefix: str, column: str) -> str:
    """The SQL of `show`; NULL for NULL."""
    return f"'{prefix}_' || encode(uuid_send({column}), 'hex')"


def parse(prefix: str, text: str) -> UUID | None:
    """The inverse of `show`; None for anything else."""
    head, _, body = text.partition("_")
    return UUID(hex=body) if head == prefix and _HEX.fullmatch(body) else None


def _parser(prefix: str) -> Callable[[object], UUID]:
    def parse_or_raise(value: object) -> UUID:
        if isinstance(value, UUID):
            return value
        made = parse(prefix, value) if isinstance(value, str) else None
        if made is None:
            message = f"an id looks like {prefix}_ and 32 hex digits"
            raise ValueError(message)
        return made

    return parse_or_raise


def _shower(prefix: str) -> Callable[[UUID], str]:
    return lambda made: show(prefix, made)


def _schema(prefix: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{prefix}_[0-9a-f]{{32}}$"})


TeamId = Annotated[UUID, BeforeValidator(_parser("team")), PlainSerializer(_shower("team")), _schema("team")]
UserId = Annotated[UUID, BeforeValidator(_parser("user")), PlainSerializer(_shower("user")), _schema("user")]
KeyId = Annotated[UUID, BeforeValidator(_parser("key")), PlainSerializer(_shower("key")), _schema("key")]
QuotaId = Annotated[UUID, BeforeValidator(_parser("quota")), PlainSerializer(_shower("quota")), _schema("quota")]
PriceId = Annotated[UUID, BeforeValidator(_parser("price")), PlainSerializer(_shower("price")), _schema("price")]
JobId = Annotated[UUID, BeforeValidator(_parser("job")), PlainSerializer(_shower("job")), _schema("job")]
EntryId = Annotated[UUID, BeforeValidator(_parser("entry")), PlainSerializer(_shower("entry")), _schema("entry")]
DeliveryId = Annotated[
    UUID, BeforeValidator(_parser("delivery")), PlainSerializer(_shower("delivery")), _schema("delivery")
]
FreezeId = Annotated[UUID, BeforeValidator(_parser("freeze")), PlainSerializer(_shower("freeze")), _schema("freeze")]
FileId = Annotated[UUID, BeforeValidator(_parser("file")), PlainSerializer(_shower("file")), _schema("file")]
ClosingId = Annotated[
    UUID, BeforeValidator(_parser("closing")), PlainSerializer(_shower("closing")), _schema("closing")
]
AuditId = Annotated[UUID, BeforeValidator(_parser("audit")), PlainSerializer(_shower("audit")), _schema("audit")]
