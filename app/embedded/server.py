"""The programs of PostgreSQL run on a claimed data folder, by the account that its files belong to."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from app.embedded.data_folder import Account, Claim, Refused

LOG_BYTES = 16 * 2**20
START_SECONDS = 120.0  # crash recovery included
STOP_STEPS = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
# What a process may call its own working folder, whatever lies above it: so a server that is nobody finds
# its files below a folder of root's, as it is put there before it stops being root.
HERE = "/proc/self/cwd"
DEFAULTS = {
    "dynamic_shared_memory_type": "mmap",  # inside the data folder: nothing to be left in /dev/shm
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
LOCALE = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
# Lines of postmaster.pid, by PostgreSQL's pidfile.h.
PID, SHARED_MEMORY, STATUS = 0, 6, 7


class Server:
    """One server on `claimed`; its processes inherit the locks `shares`, and `pause` is called in waits."""

    def __init__(
        self,
        claimed: Claim,
        account: Account | None,
        binaries: Path,
        *,
        shares: tuple[int, ...],
        pause: Callable[[], None],
    ) -> None:
        self._claimed = claimed
        self._account = account
        self._binaries = binaries
        self._shares = shares
        self._pause = pause
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, settings: Mapping[str, str], socket_dir: Path) -> None:
        """Make the cluster if there is none, start the server on it and wait until it takes connections."""
        cluster = self._claimed.cluster
        if not cluster.exists():
            self._make_cluster(sync=settings.get("fsync", "on") != "off")
        # We hold the lock, so no server lives here: an old pid in this file may by now be anyone's.
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        fixed = {"listen_addresses": "", "unix_socket_directories": str(socket_dir), "port": "5432"}
        flags = [f"--{name}={value}" for name, value in {**DEFAULTS, **settings, **fixed}.items()]
        server = self._run("postgres", ["-D", self._named(cluster), *flags], cluster)
        self._wait(server, until=lambda: self._pid_file(STATUS) == "ready")
        if server.poll() is not None:
            raise Refused(f"PostgreSQL did not start; the end of {self._claimed.log}: {self._last_words()}")

    def is_running(self) -> bool:
        """Whether the server has not ended by itself; also keeps its log from growing for ever."""
        if self._claimed.log.stat().st_size > LOG_BYTES:
            os.truncate(self._claimed.log, 0)  # the server appends, so it goes on at the start
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """Fast shutdown, then ever harder; at the end no process and no shared memory is left."""
        process = self._process
        if process is None:
            return
        for number, seconds in STOP_STEPS:
            if process.poll() is None:
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)
        if process.returncode != 0 and self._pid_file(PID) == str(process.pid):
            _remove_shared_memory(self._pid_file(SHARED_MEMORY))

    def _make_cluster(self, *, sync: bool) -> None:
        """Run initdb on a folder that gets its name once it is whole: killed in between, it is begun anew."""
        part = self._claimed.data_dir / "cluster.part"
        if part.exists():
            shutil.rmtree(part)
        part.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(part, self._account.uid, self._account.gid)
        flags = ["--username=postgres", "--auth=trust", "--no-instructions", *LOCALE]
        initdb = self._run("initdb", ["-D", self._named(part), *flags, *([] if sync else ["--no-sync"])], part)
        self._wait(initdb, until=lambda: False)
        if initdb.returncode != 0:
            raise Refused(f"initdb failed; the end of {self._claimed.log}: {self._last_words()}")
        part.rename(self._claimed.cluster)

    def _run(self, program: str, arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
        """Start a program of PostgreSQL in `folder` as the server's account."""
        account = self._account
        how = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        log = os.open(self._claimed.log, how, 0o600)
        try:
            self._process = subprocess.Popen(  # noqa: S603 (the wheel's own binaries, no shell)
                [self._binaries / "bin" / program, *arguments],
                cwd=folder,
                env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                pass_fds=self._shares,
                preexec_fn=_end_with_parent(),  # noqa: PLW1509 (this process has one thread)
            )
        finally:
            os.close(log)
        return self._process

    def _wait(self, process: subprocess.Popen[bytes], *, until: Callable[[], bool]) -> None:
        """Return once the process has ended or `until` holds."""
        give_up_at = time.monotonic() + START_SECONDS
        while process.poll() is None and not until():
            if time.monotonic() > give_up_at:
                raise Refused(f"PostgreSQL was not ready after {START_SECONDS:.0f} seconds: start it once more.")
            self._pause()

    def _named(self, folder: Path) -> str:
        return HERE if self._account is not None and Path(HERE).exists() else str(folder)

    def _pid_file(self, line: int) -> str:
        try:
            lines = (self._claimed.cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return ""
        return lines[line].strip() if line < len(lines) else ""

    def _last_words(self) -> str:
        return " / ".join(self._claimed.log.read_text(errors="replace").splitlines()[-3:])


def _end_with_parent() -> Callable[[], None] | None:
    """For the child: ask the kernel to shut it down (SIGINT) should this process be killed. Linux only."""
    if sys.platform != "linux":
        return None
    prctl, keeper = ctypes.CDLL(None).prctl, os.getpid()
    set_death_signal = 1

    def ask() -> None:
        prctl(set_death_signal, int(signal.SIGINT), 0, 0, 0)
        if os.getppid() != keeper:
            os._exit(1)

    return ask


def _remove_shared_memory(key_and_id: str) -> None:
    """Remove the segment that a killed server leaves; postmaster.pid names it by its key and its id."""
    numbers = key_and_id.split()
    if len(numbers) == 2:  # noqa: PLR2004 (key and id)
        remove = 0
        ctypes.CDLL(None).shmctl(int(numbers[1]), remove, None)
