"""OUTPUT_STORE: where the videos are kept, if they are; whoever keeps none carries no driver of buckets (4 MiB)."""

from typing import TYPE_CHECKING

from pydantic import SecretStr

from app.settings import Settings

if TYPE_CHECKING:
    from app.output_store.store import OutputStore


class StoreTrouble(Exception):  # noqa: N818  a fact
    """The store did not do it; the reason is one line, for the operator. `is_refusal`: asking again will not help."""

    def __init__(self, reason: str, *, is_refusal: bool = False) -> None:
        super().__init__(reason)
        self.is_refusal = is_refusal


class NotStored(Exception):  # noqa: N818  a fact
    """There is nothing of this name."""


def open_store(settings: Settings) -> "OutputStore | None":
    """That of OUTPUT_STORE, if it is set. Raises StoreTrouble."""
    if settings.output_store is None:
        return None
    from app.output_store.store import OutputStore  # noqa: PLC0415

    given = {
        "access_key_id": settings.aws_access_key_id,
        "secret_access_key": settings.aws_secret_access_key,
        "session_token": settings.aws_session_token,
        "region": settings.aws_region,
        "endpoint": settings.aws_endpoint_url,
    }
    keys = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in given.items()
        if value is not None
    }
    return OutputStore(settings.output_store, keys=keys)
