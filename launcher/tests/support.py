"""`sluice` as people start it: a process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SLUICE = str(Path(sys.executable).with_name("sluice"))
DEADLINE = 90


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment without anything that this machine says about Sluice."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLUICE_", "SWF_", "ACTIVEMQ_", "OTEL_"))}
    kept.pop("REQUESTS_CA_BUNDLE", None)
    return {**kept, **(extra or {})}


def sluice(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [SLUICE, *map(str, arguments)], env=environment(env), capture_output=True, text=True, timeout=DEADLINE
    )


class Up:
    """A running `sluice up`, on ports that the kernel chose."""

    def __init__(self, data: Path, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.errors = (data.parent / f"{data.name}.log").open("w+")
        self.process = subprocess.Popen(
            [SLUICE, "up", "--data", str(data), "--json", *_any_ports(arguments), *arguments],
            env=environment(env),
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def until_ready(self) -> "Up":
        """Wait for the line that says where everything is."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.said()
        self.facts: dict[str, Any] = json.loads(line)
        return self

    @property
    def token(self) -> str:
        return (self.data / "admin-token").read_text().strip()

    def said(self) -> str:
        """Return what it wrote on standard error so far."""
        self.errors.flush()
        return Path(self.errors.name).read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()


def _any_ports(arguments: tuple[str, ...]) -> list[str]:
    options = ["--http", "--https", "--admin", "--nats-port"]
    if "--only" not in arguments or "stream" in arguments:
        options.append("--stomp")
    return [word for option in options if option not in arguments for word in (option, "0")]


@contextlib.contextmanager
def running(data: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Up]:
    """Run the platform around a block."""
    up = Up(data, *arguments, env=env)
    try:
        yield up.until_ready()
    finally:
        up.close()


def alive(pid: int) -> bool:
    """Say whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes_below(folder: Path) -> list[int]:
    """Return the processes whose working directory lies in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(folder):
                found.append(int(entry.name))
    return found
