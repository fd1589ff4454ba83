"""What a benchmark may know of processes."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Others", "cpu", "memory", "sampled"]

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """Return the bytes of resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def cpu(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    return sum(map(int, _stat(Path(f"/proc/{pid}"))[11:13])) / TICKS


@contextmanager
def sampled(read: Callable[[], float], every: float = 0.05) -> Iterator[list[float]]:
    """Read a figure again and again while a block runs; the list holds what was read so far."""
    found = [read()]
    done = threading.Event()

    def sample() -> None:
        while not done.wait(every):
            found.append(read())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
        found.append(read())


class Others:
    """How much of the machine everybody else has used since this was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy, self._ours = _busy(), _ours()

    def processors(self) -> float:
        """Return how many processors on average."""
        used = _busy() - self._busy - (_ours() - self._ours)
        return max(0.0, used / (time.monotonic() - self._began))


def _busy() -> float:
    """Processor time of the whole machine that was not idle, in seconds."""
    user, nice, system, _, _, interrupts, soft, stolen = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, interrupts, soft, stolen))) / TICKS


def _ours() -> float:
    """Processor time of this process and all that it started, in seconds."""
    parents, used = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = _stat(folder)
            parents[int(folder.name)] = int(fields[1])
            used[int(folder.name)] = sum(map(int, fields[11:15]))
    family = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(used.get(pid, 0) for pid in family) / TICKS


def _stat(folder: Path) -> list[str]:
    """Return what follows the name of a process, which may hold anything."""
    return (folder / "stat").read_text().rpartition(")")[2].split()
