"""The data folder of an embedded server: ours alone, used by one owner at a time.

- `falgate.lock` makes the folder ours; it is locked while any process of its server lives.
- `cluster/` is PostgreSQL's own folder, renamed from `cluster.part/` once it is whole.
- `postgres.log` is what the server says, emptied at 16 MiB.
"""

import fcntl
import os
import pwd
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

LOCK = "falgate.lock"
NOT_FOREIGN = {"lost+found"}  # what a fresh ext4 volume holds by itself
WAIT_SECONDS = 30.0


class Refused(Exception):  # noqa: N818 (a fact, not a fault)
    """The server is not started; the message is one sentence for whoever asked."""


class Account(NamedTuple):
    """The user and group that the server runs as and its files belong to."""

    uid: int
    gid: int


class Claim(NamedTuple):
    """A data folder that nobody else can use until this process and all that inherit `lock` have ended."""

    data_dir: Path
    lock: int

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own folder; it exists only when it is whole."""
        return self.data_dir / "cluster"

    @property
    def log(self) -> Path:
        """The file that the server writes what it has to say to."""
        return self.data_dir / "postgres.log"

    def name_owner(self, pid: int) -> None:
        """Write down whose the folder is; 0 for nobody's any more, although the server still lives."""
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, b"%d\n" % pid, 0)


def claim(data_dir: Path, *, owner: int, pause: Callable[[], None]) -> Claim:
    """Make `data_dir` if need be and lock it; raises Refused, and has changed nothing, if it is not ours.

    Waits for a server whose owner has gone to finish (kill -9 and an immediate restart), never for one whose
    owner lives. `pause` is called while waiting.
    """
    _require_ours(data_dir)
    data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not _try_lock(lock):
        holder = _named_owner(lock)
        if _is_alive(holder):
            raise Refused(f"{data_dir} is in use by process {holder}: stop that one or use another folder.")
        if time.monotonic() > give_up_at:
            raise Refused(f"{data_dir} is in use by a server that does not end: use another folder.")
        pause()
    claimed = Claim(data_dir, lock)
    claimed.name_owner(owner)
    return claimed


def server_account(cluster: Path) -> Account | None:
    """Who the server is to be: None for whoever we are, an account to become when we are root.

    An existing cluster decides, as PostgreSQL serves only files of its own user; a new one is `nobody`'s.
    """
    owner = cluster.stat() if cluster.exists() else None
    if os.geteuid() != 0:
        _require_own_name(owner)
        return None
    if owner is not None:
        if owner.st_uid == 0:
            raise Refused(f"{cluster} belongs to root, whom PostgreSQL refuses: chown -R nobody '{cluster}'.")
        return Account(owner.st_uid, owner.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise Refused("PostgreSQL does not run as root and no user is called nobody: add one.") from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def require_major(cluster: Path, major: int) -> None:
    """Raise Refused if the cluster was made by another major version than the binaries are."""
    version = cluster / "PG_VERSION"
    found = version.read_text().strip() if version.exists() else str(major)
    if found != str(major):
        raise Refused(
            f"The cluster in {cluster.parent} was made by PostgreSQL {found} and the installed binaries are "
            f"{major}: dump it with {found} and load it into a new folder, or move it away."
        )


def _require_ours(data_dir: Path) -> None:
    if not data_dir.exists():
        return
    if not data_dir.is_dir():
        raise Refused(f"{data_dir} is not a folder: choose another one.")
    held = set(os.listdir(data_dir))  # noqa: PTH208 (names are all that is asked)
    if held - NOT_FOREIGN and LOCK not in held:
        raise Refused(f"The folder {data_dir} holds something that is not ours: choose an empty or new one.")


def _require_own_name(owner: os.stat_result | None) -> None:
    uid = os.geteuid()
    if owner is not None and owner.st_uid != uid:
        raise Refused(f"The cluster belongs to user {owner.st_uid} and this is user {uid}: be that one, or root.")
    try:
        pwd.getpwuid(uid)
    except KeyError:
        if owner is None:  # initdb alone asks for the name
            raise Refused(f"User {uid} has no name, which initdb needs: add one to /etc/passwd.") from None


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _named_owner(lock: int) -> int:
    text = os.pread(lock, 32, 0).strip()
    return int(text) if text.isdigit() else 0


def _is_alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
