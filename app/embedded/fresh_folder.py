"""The fresh folder of one run, `falgate-pg-…` in a temporary folder: the socket and, as root, the binaries.

It is locked by the processes that need it; what a killed keeper left is not, and goes at the next start.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from app.embedded.data_folder import Account, Refused

PREFIX = "falgate-pg-"
# The longest address of a Unix socket is 103 bytes on macOS (107 on Linux), and this much of it is ours.
LONGEST_TEMP = 103 - len(f"/{PREFIX}12345678/socket/.s.PGSQL.5432")


class Fresh(NamedTuple):
    """A folder of one run's own; `lock` is open as long as it is needed, also in children."""

    folder: Path
    lock: int

    @property
    def socket_dir(self) -> Path:
        """Where the server listens; only its own user may enter."""
        return self.folder / "socket"


def make_fresh(account: Account | None) -> Fresh:
    """Make this run's folder, after clearing away what killed ones of the same user have left."""
    temp = _temp_folder(as_other=account is not None)
    _sweep(temp)
    fresh = _make_locked(temp)
    fresh.socket_dir.mkdir(mode=0o700)
    if account is not None:
        fresh.folder.chmod(0o711)  # may be passed through, not read
        os.chown(fresh.socket_dir, account.uid, account.gid)
    return fresh


def readable_binaries(binaries: Path, folder: Path) -> Path:
    """The binaries where any user can run them: as they are, or a copy in `folder` if the wheel is in /root.

    A copy keeps the wheel's layout: its programs find their libraries by a path relative to themselves.
    """
    package = binaries.parent
    needed = [binaries / name for name in ("bin/postgres", "bin/initdb", "lib/postgresql", "share")]
    libraries = (package.parent / f"{package.name}.libs", package / ".dylibs")  # Linux, macOS
    needed += [path for path in libraries if path.exists()]
    if all(_is_open_to_all(path) for path in needed):
        return binaries
    for path in needed:
        _copy(path, folder / "wheel" / path.relative_to(package.parent))
    _open_to_all(folder / "wheel")
    return folder / "wheel" / binaries.relative_to(package.parent)


def _is_open_to_all(path: Path) -> bool:
    """Whether everybody may pass to a file or folder, and read it and all that is in it."""
    real = path.resolve()
    below = real.rglob("*") if real.is_dir() else ()
    return _may_all_pass(real.parent) and all(
        step.stat().st_mode & wanted == wanted
        for step in (real, *below)
        for wanted in (0o005 if step.is_dir() or step.parent.name == "bin" else 0o004,)
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("pgxs", "pkgconfig", "*.a"))
    else:
        shutil.copy(source, target)


def _open_to_all(copied: Path) -> None:
    """The wheel may have been installed under a strict umask, and the copy took over its modes."""
    for folder, _, names in os.walk(copied):
        Path(folder).chmod(0o755)
        for name in names:
            file = Path(folder, name)
            if not file.is_symlink():
                file.chmod(file.stat().st_mode | (0o555 if os.access(file, os.X_OK) else 0o444))


def _make_locked(temp: str) -> Fresh:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=temp))
        lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        # Shared, as cleaners of old files (systemd-tmpfiles) leave alone what anybody has locked.
        fcntl.flock(lock, fcntl.LOCK_SH)
        if folder.exists():
            return Fresh(folder, lock)
        os.close(lock)  # swept away by another start before we had it locked


def _sweep(temp: str) -> None:
    """Remove the folders of our user that no process has locked any more."""
    for left in Path(temp).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(left, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left)
            finally:
                os.close(lock)


def _temp_folder(*, as_other: bool) -> str:
    """A temporary folder short enough for a socket; for another user's sake one that all may pass and run."""
    for folder in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm")):  # noqa: S108
        if len(os.fsencode(folder)) <= LONGEST_TEMP and (not as_other or _lets_all_run(Path(folder))):
            return folder
    raise Refused("No temporary folder is short of path and lets user nobody run programs: set TMPDIR.")


def _lets_all_run(folder: Path) -> bool:
    try:
        real = folder.resolve(strict=True)
        return _may_all_pass(real) and not os.statvfs(real).f_flag & getattr(os, "ST_NOEXEC", 0)
    except OSError:
        return False


def _may_all_pass(folder: Path) -> bool:
    return all(step.stat().st_mode & 0o001 for step in (folder, *folder.parents))
