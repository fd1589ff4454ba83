"""A server as a child process: it dies with us, owns its data directory, and keeps its port."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, ClassVar, Self

from sluice_embedded.errors import DataInUse, PortBusy, ServerError, StartFailed

__all__ = ["LOCALHOST", "Owner", "Server", "processes_in", "wait_until"]

LOCALHOST = "127.0.0.1"
CHILD = Path(__file__).with_name("_child.py")
LOG_LINES = 15


class Owner:
    """The user that a server runs as and that owns its files.

    Parameters
    ----------
    uid, gid
        By default our own.
    """

    def __init__(self, uid: int | None = None, gid: int | None = None) -> None:
        self.uid = os.geteuid() if uid is None else uid
        self.gid = os.getegid() if gid is None else gid

    @property
    def is_us(self) -> bool:
        """Whether no change of user is needed."""
        return self.uid == os.geteuid()

    def own(self, path: Path) -> None:
        """Hand `path` over to this user."""
        if not self.is_us:
            os.chown(path, self.uid, self.gid)


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether `condition` came true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def processes_in(folder: Path, program: str) -> list[int]:
    """Ids of the living processes of `program` whose working directory is `folder`.

    Unlike a process id in a file, this cannot be mistaken for another process, and it finds orphans.
    """
    try:
        wanted = folder.stat()
    except FileNotFoundError:
        return []
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            cwd = os.stat(f"/proc/{entry.name}/cwd")
            if os.path.samestat(cwd, wanted) and Path(f"/proc/{entry.name}/comm").read_text().strip() == program:
                found.append(int(entry.name))
        except OSError:
            continue  # ended meanwhile, or not ours to look at
    return found


class Server:
    """What PostgreSQL and nats-server have in common.

    Parameters
    ----------
    data
        Folder of this server alone; made when absent.
    port
        TCP port on 127.0.0.1; 0 lets the kernel choose at the first start. Later starts keep it.
    timeout
        Seconds for a start, and for a server of a killed process to end before that.
    """

    program: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, data: Path, *, port: int = 0, timeout: float = 60) -> None:
        self.data = Path(data).absolute()
        self.port = port
        self.timeout = timeout
        self.owner = Owner()
        self._lock: IO[str] | None = None
        self._reserved: list[socket.socket] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log_file(self) -> Path:
        """What the server says; that of the run before it has the suffix ``.1``."""
        return self.data / "log"

    @property
    def workdir(self) -> Path:
        """Working directory of the server, by which its processes are known."""
        return self.data

    @property
    def pid(self) -> int:
        """Process id of the running server.

        Raises
        ------
        RuntimeError
            When it does not run.
        """
        if self._process is None:
            raise RuntimeError(f"{self.program} does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server is started and alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it serves.

        Must be called on the main thread: the kernel ends a child when the *thread* that made it ends.

        Raises
        ------
        DataInUse, PortBusy, WrongVersion, StartFailed
            One sentence for a person each; nothing keeps running.
        RuntimeError
            Called on another thread, or twice.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(f"{self.program} must be started on the main thread, or it would end with this one")
        if self.running:
            raise RuntimeError(f"{self.program} runs already")
        try:
            self._take_data()
            if not self._reserved:
                self._reserve_ports()
            self._await_predecessor()
            self._prepare()
            if self.log_file.exists():
                self.log_file.replace(self.log_file.with_suffix(".1"))
            self._process = self._spawn(self._command(), cwd=self.workdir)
            deadline = time.monotonic() + self.timeout
            if not wait_until(lambda: not self.running or self._ready(deadline - time.monotonic()), self.timeout):
                raise StartFailed(f"{self.program} does not answer after {self.timeout:.0f} s.\n{self._log_tail()}")
            if not self.running:
                raise StartFailed(f"{self.program} ended while it started.\n{self._log_tail()}")
        except BaseException:
            self.stop(timeout=1)
            raise

    def stop(self, timeout: float = 5) -> None:
        """End the server and give back its port and data directory; kill it after `timeout` seconds."""
        if self._process is not None:
            if self.running:
                self._process.send_signal(self.stop_signal)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout)
            self.kill()
        for reserved in self._reserved:
            reserved.close()
        self._reserved.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def kill(self) -> None:
        """``kill -9`` of the server and all its processes; port and data directory stay ours for the next start."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

        def all_gone() -> bool:
            left = processes_in(self.workdir, self.program)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        wait_until(all_gone, self.timeout)

    def _prepare(self) -> None:
        """Write what the server needs before it starts."""
        raise NotImplementedError

    def _command(self) -> list[str]:
        """The program and its arguments."""
        raise NotImplementedError

    def _ready(self, timeout: float) -> bool:
        """Whether the server answers, and is the one that we started."""
        raise NotImplementedError

    def _take_data(self) -> None:
        if self._lock is not None:
            return
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self.data / "lock").open("a+")
        except OSError as exc:
            raise ServerError(f"{self.data} cannot be written ({exc.strerror}); choose another folder.") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise DataInUse(f"{self.data} is in use by process {holder}; stop it or choose another folder.") from exc
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        self.owner.own(self.data)

    def _reserve_ports(self) -> None:
        self.port = self._reserve(self.port)

    def _reserve(self, port: int) -> int:
        """Bind `port` without listening, so that nobody else can be given it until `stop`.

        With SO_REUSEADDR, which our servers set too, a socket may listen on an address where another one is bound
        but does not listen. So neither the choice of a port nor a restart is a race.
        """
        reserved = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reserved.bind((LOCALHOST, port))
        except OSError as exc:
            reserved.close()
            raise PortBusy(f"Port {port} for {self.program} cannot be had ({exc.strerror}); choose another.") from exc
        self._reserved.append(reserved)
        return int(reserved.getsockname()[1])

    def _await_predecessor(self) -> None:
        """A killed parent frees the lock at once, but its server needs a moment to end."""
        if not wait_until(lambda: not processes_in(self.workdir, self.program), self.timeout):
            pids = ", ".join(map(str, processes_in(self.workdir, self.program)))
            raise DataInUse(f"{self.data} is still in use by {self.program} (process {pids}); stop it first.")

    def _spawn(self, command: Sequence[str | Path], *, cwd: Path) -> subprocess.Popen[bytes]:
        arguments = (os.getpid(), int(self.stop_signal), self.owner.uid, self.owner.gid, *command)
        with self.log_file.open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", CHILD, *map(str, arguments)],
                cwd=cwd,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in our terminal is ours to handle
            )

    def _log_tail(self) -> str:
        if not self.log_file.exists():
            return ""
        lines = self.log_file.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])
