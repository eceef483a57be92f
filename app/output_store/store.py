"""The folder or the bucket that keeps the videos, by one interface."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import obstore
from obstore.exceptions import NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, S3Store

from app.output_store import NotStored, StoreTrouble
from app.settings import split_place

PIECE_BYTES: Final = 262_144
"""What is read of a file at a time."""
_PART_BYTES: Final = 8_388_608
_PARTS_AT_ONCE: Final = 2
_CALL_SECONDS: Final = 60  # of one call, its body included: a part or a piece
_TRY_SECONDS: Final = 30
_RETRIES: Final = 3
_PROBE: Final = ".falgate"
_PROBE_SECONDS: Final = 10.0
_PRIVATE: Final = 0o700

Result = TypeVar("Result")


class OutputStore:
    """Keeps files by name: written whole or not at all, read in pieces, all of it in constant memory.

    Raises StoreTrouble where the folder cannot be made. For a bucket `keys` holds what `AWS_…` settings say, in
    obstore's own names; what they leave open obstore takes from the environment.
    """

    def __init__(self, place: str, *, keys: Mapping[str, Any] | None = None, store: ObjectStore | None = None) -> None:
        bucket, rest = split_place(place)
        self._bucket = bucket
        self._folder = Path(rest)
        if store is not None:
            self._store = store
        elif bucket:
            self._store = _open_bucket(bucket, rest, keys or {})
        else:
            self._store = _open_folder(self._folder)

    def __repr__(self) -> str:
        return f"OutputStore({f's3://{self._bucket}' if self._bucket else str(self._folder)!r})"

    async def require_writable(self) -> None:
        """Write something small and take it away again.

        Raises StoreTrouble, `is_refusal` where only whoever runs the gateway can mend it.
        """
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self._said(obstore.put_async(self._store, _PROBE, b"falgate was here"))
                await self.delete(_PROBE)
        except TimeoutError:
            raise StoreTrouble("no answer in time") from None
        except NotStored:
            raise StoreTrouble("there is no such bucket", is_refusal=True) from None
        except StoreTrouble as trouble:
            if not self._bucket:
                raise StoreTrouble("the folder cannot be written to", is_refusal=True) from None
            if trouble.is_refusal:
                raise StoreTrouble("the bucket refuses the AWS_ keys", is_refusal=True) from None
            raise

    async def write(self, name: str, chunks: AsyncIterable[bytes], *, content_type: str) -> None:
        """Keep what comes under this name, in place of what was there; what `chunks` raises comes through.

        A folder has it on the disk when this returns.
        """
        attributes: dict[str, Any] = {"Content-Type": content_type} if self._bucket else {}
        failed: list[Exception] = []

        async def watched() -> AsyncIterator[bytes]:
            try:
                async for chunk in chunks:
                    yield chunk
            except Exception as error:
                failed.append(error)
                raise

        try:
            await self._said(
                obstore.put_async(
                    self._store,
                    name,
                    watched(),
                    attributes=attributes,
                    use_multipart=True,
                    chunk_size=_PART_BYTES,
                    max_concurrency=_PARTS_AT_ONCE,
                )
            )
        except StoreTrouble:
            if failed:
                raise failed[0] from None
            raise
        if not self._bucket:
            await self._said(asyncio.to_thread(_sweep, self._folder / name))
            await self._said(asyncio.to_thread(_flush, self._folder / name, self._folder))

    async def size_of(self, name: str) -> int:
        """Its bytes. Raises NotStored and StoreTrouble."""
        head = await self._said(obstore.head_async(self._store, name))
        return int(head["size"])

    async def read(self, name: str, *, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to before `end`, which must lie within it, a piece at a time.

        Raises NotStored and StoreTrouble before the first piece, and StoreTrouble when it breaks off. Between two
        pieces nothing is open, however long whoever reads may pause.
        """
        first = await self._piece(name, start, end)

        async def pieces() -> AsyncGenerator[bytes, None]:
            yield first
            for at in range(start + PIECE_BYTES, end, PIECE_BYTES):
                yield await self._piece(name, at, end)

        return pieces()

    async def _piece(self, name: str, start: int, end: int) -> bytes:
        end = min(start + PIECE_BYTES, end)
        piece = bytes(await self._said(obstore.get_range_async(self._store, name, start=start, end=end)))
        if len(piece) != end - start:
            raise StoreTrouble("the file is shorter than it was when it was kept")
        return piece

    async def delete(self, name: str) -> None:
        """Take it away, if it is there."""
        with suppress(NotStored):
            await self._said(obstore.delete_async(self._store, name))
        if not self._bucket:
            await self._said(asyncio.to_thread(_sweep, self._folder / name))

    async def link(self, name: str, *, seconds: int) -> str | None:
        """Where anybody can read it for so long; None of a folder, which nobody else can reach."""
        if not isinstance(self._store, S3Store):
            return None
        return str(await self._said(obstore.sign_async(self._store, "GET", name, timedelta(seconds=seconds))))

    async def _said(self, call: Awaitable[Result]) -> Result:
        try:
            return await call
        except (FileNotFoundError, NotFoundError):
            raise NotStored from None
        except Exception as error:  # noqa: BLE001  of the Rust below, which has many
            raise _trouble(error) from None


def _trouble(error: Exception) -> StoreTrouble:
    """obstore's first line says what was asked of whom and what came; the rest is its own inside."""
    refusal = isinstance(error, PermissionError | PermissionDeniedError | UnauthenticatedError)
    reason = str(error).partition("\n")[0].partition("<")[0].strip()  # what a bucket answers may show keys
    return StoreTrouble(f"{type(error).__name__}: {reason[:300]}", is_refusal=refusal)


def _open_folder(folder: Path) -> LocalStore:
    try:
        folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        return LocalStore(folder)
    except Exception as error:  # noqa: BLE001
        why = getattr(error, "strerror", None) or type(error).__name__
        raise StoreTrouble(f"the folder cannot be made ({why})", is_refusal=True) from None


def _open_bucket(bucket: str, prefix: str, keys: Mapping[str, Any]) -> S3Store:
    for name in [name for name, value in os.environ.items() if name.startswith("AWS_") and not value]:
        del os.environ[name]  # compose hands on what nobody set, and obstore would take it for a key
    try:
        return S3Store(
            bucket,
            prefix=prefix or None,
            disable_bulk_delete=True,  # which others than Amazon do not have
            client_options={
                "allow_http": str(keys.get("endpoint", "")).startswith("http://"),
                "connect_timeout": timedelta(seconds=5),
                "timeout": timedelta(seconds=_CALL_SECONDS),
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_TRY_SECONDS)},
            **keys,
        )
    except Exception:  # noqa: BLE001
        raise StoreTrouble("the AWS_ settings do not go together", is_refusal=True) from None


def _sweep(path: Path) -> None:
    """Take away what writers left that were killed: obstore writes `name#1` first, and renames that."""
    for left in path.parent.glob(f"{path.name}#*"):
        left.unlink(missing_ok=True)


def _flush(path: Path, root: Path) -> None:
    """Have the disk hold the file and its names: after a loss of power what a row says is there must be."""
    for part in [path, *path.parents]:
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if part == root:
            return
