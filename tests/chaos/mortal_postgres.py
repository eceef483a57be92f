"""A PostgreSQL that is killed and comes back under the same address."""

import os
import signal
import time
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from app.embedded import EmbeddedPostgres

_ENDS_WITHIN_SECONDS: Final = 20


class MortalPostgres(EmbeddedPostgres):
    """Safe as it comes (fsync is on). Its socket is found through a link, whichever life it has."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "data")
        self._link = folder / "socket"

    def __enter__(self) -> Self:
        super().__enter__()
        self._point()
        return self

    def dsn(self, database: str = "falgate") -> str:
        return super().dsn(database).replace(quote(self._socket_dir), quote(str(self._link)))

    def kill(self) -> None:
        """SIGKILL to the postmaster; returns once nothing of it is left."""
        pid = int((self.data_dir / "cluster" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        assert self._keeper is not None
        self._keeper.wait(_ENDS_WITHIN_SECONDS)
        self.close()

    def come_back(self) -> float:
        """Start it again on what it has written; how many seconds its own recovery took."""
        begun = time.monotonic()
        self.__enter__()
        return time.monotonic() - begun

    def _point(self) -> None:
        fresh = self._link.with_name("socket.fresh")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self._socket_dir)
        fresh.rename(self._link)
