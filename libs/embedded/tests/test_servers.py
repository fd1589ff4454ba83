"""What holds for PostgreSQL and nats-server alike."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice_embedded import DataInUse, Nats, PortBusy, Postgres, ServerError
from sluice_embedded.process import Server, processes_in, wait_until

KINDS = pytest.mark.parametrize("kind", [Postgres, Nats])

PARENT = """
import json, signal, sys
from pathlib import Path
from sluice_embedded import Nats, Postgres

data = Path(sys.argv[1])
servers = [Postgres(data / "Postgres"), Nats(data / "Nats")]
for server in servers:
    server.start()
print(json.dumps([server.pid for server in servers]), flush=True)
signal.pause()
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A process that runs both servers in `tmp_path`, and their ids."""
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
        process.kill()


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def ended(pid: int) -> bool:
    """Ended, or a zombie that waits for whoever inherited it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_servers_die_with_a_parent_that_is_killed(parent: tuple[subprocess.Popen[str], list[int]]) -> None:
    process, pids = parent
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert wait_until(lambda: all(map(ended, pids)), timeout=10)


def test_a_terminal_interrupt_reaches_the_parent_only(parent: tuple[subprocess.Popen[str], list[int]]) -> None:
    process, pids = parent
    assert {os.getsid(pid) for pid in pids}.isdisjoint({os.getsid(process.pid)})


@KINDS
def test_start_takes_over_from_a_parent_that_was_just_killed(
    kind: type[Server], parent: tuple[subprocess.Popen[str], list[int]], tmp_path: Path
) -> None:
    process, _ = parent
    process.send_signal(signal.SIGKILL)
    process.wait()
    with kind(tmp_path / kind.__name__) as server:
        assert accepts(server.port)


@KINDS
def test_data_of_another_process_is_in_use(
    kind: type[Server], parent: tuple[subprocess.Popen[str], list[int]], tmp_path: Path
) -> None:
    process, _ = parent
    with pytest.raises(DataInUse, match=f"in use by process {process.pid}"):
        kind(tmp_path / kind.__name__).start()


@KINDS
def test_a_server_that_outlives_its_parent_is_named(
    kind: type[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kind(tmp_path) as first:
        # what is left when the lock's holder is gone but its server is not
        monkeypatch.setattr("fcntl.flock", lambda *_: None)
        with pytest.raises(DataInUse, match=f"process {first.pid}"):
            kind(tmp_path, timeout=0.1).start()
        assert first.running


@KINDS
def test_a_busy_port_is_one_sentence_and_keeps_nothing(kind: type[Server], tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        server = kind(tmp_path, port=port)
        with pytest.raises(PortBusy, match=f"Port {port} "):
            server.start()
    with server:
        assert server.port == port


@KINDS
def test_a_port_stays_reserved_between_kill_and_start(kind: type[Server], tmp_path: Path) -> None:
    with kind(tmp_path) as server:
        port = server.port
        server.kill()
        assert not accepts(port)
        with socket.socket() as thief, pytest.raises(OSError, match="in use"):
            thief.bind(("127.0.0.1", port))
        server.start()
        assert server.port == port
        assert accepts(port)


@KINDS
def test_kill_leaves_no_process_behind(kind: type[Server], tmp_path: Path) -> None:
    with kind(tmp_path) as server:
        server.kill()
        assert processes_in(server.workdir, server.program) == []
        assert not server.running


@KINDS
def test_stop_ends_it_and_gives_everything_back(kind: type[Server], tmp_path: Path) -> None:
    first = kind(tmp_path)
    first.start()
    pid = first.pid
    first.stop()
    assert ended(pid)
    with kind(tmp_path, port=first.port) as second:
        assert accepts(second.port)


@KINDS
def test_start_refuses_another_thread(kind: type[Server], tmp_path: Path) -> None:
    refusals: list[str] = []

    def attempt() -> None:
        try:
            kind(tmp_path).start()
        except RuntimeError as exc:
            refusals.append(str(exc))

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert len(refusals) == 1
    assert "main thread" in refusals[0]


@KINDS
def test_a_second_start_is_refused(kind: type[Server], tmp_path: Path) -> None:
    with kind(tmp_path) as server:
        with pytest.raises(RuntimeError, match="already"):
            server.start()
        assert server.running


@KINDS
def test_the_log_of_the_run_before_is_kept(kind: type[Server], tmp_path: Path) -> None:
    for _ in range(2):
        with kind(tmp_path) as server:
            pass
    assert server.log_file.with_suffix(".1").stat().st_size > 0


@KINDS
def test_a_folder_that_cannot_be_written_is_one_sentence(kind: type[Server], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match="cannot be written"):
        kind(tmp_path / "file" / "data").start()
