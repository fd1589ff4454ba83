"""The handler never makes a program wait, and what it can send arrives."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from sluice_client import LogHandler, handler
from sluice_client.rest_logging import RestLogHandler, setup_rest_logging
from sluice_core.testing import eventually
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving

LOGS = "/api/logs/"


class Stub(ThreadingHTTPServer):
    """A log service whose answers a test decides."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        self.records: list[dict[str, Any]] = []
        self.requests = 0
        self.open = threading.Event()
        self.open.set()
        self.answer: Callable[[str, list[Any]], tuple[int, Any]] = lambda _, records: (201, {"rejected": []})
        super().__init__(("127.0.0.1", port), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.open.wait()
        self.server.requests += 1
        records = [json.loads(line) for line in body.split(b"\n")]
        status, content = self.server.answer(self.headers["Content-Type"], records)
        if status == 201:
            self.server.records += records
        answer = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running(stub: Stub) -> Iterator[Stub]:
    thread = threading.Thread(target=stub.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield stub
    finally:
        stub.open.set()
        stub.shutdown()
        thread.join()
        stub.server_close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    with running(Stub()) as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(handler, "GATHER", 0.01)


@contextmanager
def logger(url: str, **given: Any) -> Iterator[tuple[logging.Logger, LogHandler]]:
    made = LogHandler(url, "app", "app-1", **{"flush_timeout": 10.0, **given})
    log = logging.Logger("program", logging.DEBUG)
    log.addHandler(made)
    try:
        yield log, made
    finally:
        made.close()


def messages(stub: Stub) -> list[str]:
    return [record["message"] for record in stub.records]


def test_records_arrive_in_the_log_service_as_the_agents_library_sends_them(make_app: AppMaker) -> None:
    odd = "tab\t ünï \0 \udc80 \u2028"
    with serving(make_app()) as served:
        with logger(served.url) as (log, made):
            log.info("run %d has begun", 7, extra={"run_id": 7, "execution_id": "e-1", "other": 1})
            try:
                raise KeyError("lost")
            except KeyError:
                log.exception("failed")
            log.log(25, "between")
            log.debug("")
            log.warning(odd)
            made.flush()
            rows = sorted(requests.get(f"{served.url}{LOGS}", timeout=10).json(), key=lambda row: row["id"])
    assert (made.sent, made.dropped, made.rejected) == (5, 0, 0)
    first, failed, between, empty, last = rows
    assert (first["message"], first["level"], first["levelname"]) == ("run 7 has begun", 20, "INFO")
    assert first["extra_data"] == {"run_id": 7, "execution_id": "e-1"}
    assert (first["app_name"], first["instance_name"], first["module"]) == ("app", "app-1", "test_handler")
    assert first["thread"] == threading.get_ident()
    assert failed["message"].startswith("failed\nTraceback")
    assert failed["message"].endswith("KeyError: 'lost'")
    assert (between["level"], between["levelname"]) == (20, "Level 25")
    assert empty["message"] == "-"
    assert last["message"] == odd.replace("\0", "\ufffd").replace("\udc80", "?").strip()


def test_a_service_that_hangs_does_not_stop_the_program_and_records_go_in_batches(stub: Stub) -> None:
    stub.open.clear()
    with logger(stub.url, timeout=30) as (log, made):
        for number in range(5000):
            log.info("%d", number)
        assert stub.records == []
        stub.open.set()
        made.flush()
        assert messages(stub) == [str(number) for number in range(5000)]
        assert stub.requests < 50


def test_what_is_too_much_is_dropped_and_counted_and_the_service_is_told(stub: Stub) -> None:
    stub.open.clear()
    with logger(stub.url, capacity=10) as (log, made):
        for number in range(100):
            log.info("%d", number)
        dropped = made.dropped
        assert 80 <= dropped <= 90
        stub.open.set()
        made.flush()
        assert len(stub.records) == 100 - dropped + 1
        assert f"{dropped} log records were dropped: more came than could be sent" in messages(stub)
        log.info("again")
        made.flush()
        assert messages(stub)[-1] == "again"


def test_records_are_bounded_in_size_too(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "WAITING", 10_000)
    stub.open.clear()
    with logger(stub.url) as (log, made):
        for _ in range(10):
            log.info("x" * 3000)
        assert made.dropped >= 6
        stub.open.set()


def test_what_is_logged_while_the_service_is_away_arrives_once_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone = Stub()
    gone.server_close()
    with logger(gone.url) as (log, made):
        for number in range(100):
            log.info("%d", number)
        eventually(lambda: [each for each in caplog.records if each.name == "sluice_client"])
        with running(Stub(gone.server_port)) as back:
            back.answer = lambda _, records: (503, {}) if back.requests < 4 else (201, {"rejected": []})
            made.flush()
            assert messages(back) == [str(number) for number in range(100)]
    assert len([each for each in caplog.records if each.name == "sluice_client"]) == 1
    assert made.dropped == 0


def test_a_server_that_takes_one_record_a_request_gets_them_so(stub: Stub) -> None:
    def original(media: str, records: list[Any]) -> tuple[int, Any]:
        if media != "application/json":
            return 415, {"detail": f'Unsupported media type "{media}" in request.'}
        return 201, {"id": 1}

    stub.answer = original
    stub.open.clear()
    with logger(stub.url) as (log, made):
        for number in range(50):
            log.info("%d", number)
        stub.open.set()
        made.flush()
        assert messages(stub) == [str(number) for number in range(50)]
        assert (made.sent, made.rejected) == (50, 0)


def test_what_the_service_refuses_is_counted_and_does_not_stop_the_rest(stub: Stub) -> None:
    def picky(media: str, records: list[Any]) -> tuple[int, Any]:
        bad = [{"index": at, "errors": {}} for at, record in enumerate(records) if record["message"] == "bad"]
        if media == "application/json":
            return (400, {"level": ["no"]}) if bad else (201, {})
        return 201, {"accepted": len(records) - len(bad), "rejected": bad}

    stub.answer = picky
    with logger(stub.url) as (log, made):
        for message in ("bad", "good", "bad", "good"):
            log.info(message)
        made.flush()
        log.info("bad")
        made.flush()
        assert (made.sent, made.rejected, made.dropped) == (2, 3, 0)


def test_what_sending_itself_logs_is_not_sent(stub: Stub) -> None:
    root = logging.getLogger()
    made = LogHandler(stub.url, "app", "app-1")
    level = root.level
    root.addHandler(made)
    root.setLevel(logging.DEBUG)
    try:
        logging.getLogger("program").info("one")
        made.flush()
        logging.getLogger("program").info("two")
        made.flush()
        assert messages(stub) == ["one", "two"]
    finally:
        root.setLevel(level)
        root.removeHandler(made)
        made.close()


def test_a_record_that_cannot_be_formatted_harms_nobody(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    with logger(stub.url) as (log, made):
        log.info("%d", "no number")
        log.info("fine")
        made.flush()
        assert messages(stub) == ["fine"]
    assert "no number" in capsys.readouterr().err


PROGRAM = """
import logging, sys
from sluice_client.rest_logging import setup_rest_logging
log = setup_rest_logging("base_agent", "daq-7", sys.argv[1])
for number in range(300):
    log.info("%d", number)
"""


def test_a_program_that_ends_has_sent_all(stub: Stub) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, stub.url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert messages(stub) == [str(number) for number in range(300)]
    assert done.stderr.splitlines()[0] == "INFO [MainThread]: 0"


def test_a_program_ends_although_the_service_is_away() -> None:
    gone = Stub()
    gone.server_close()
    done = subprocess.run([sys.executable, "-c", PROGRAM, gone.url], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "do not reach" in done.stderr


def test_the_names_of_the_agents_library_lead_here(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    console = logging.StreamHandler()
    made = RestLogHandler(stub.url, "a", "a-1", console, 5)
    made.handle(logging.makeLogRecord({"msg": "shown", "levelno": 20, "levelname": "INFO"}))
    made.flush()
    assert messages(stub) == ["shown"]
    assert "shown" in capsys.readouterr().err
    made.close()
    log = setup_rest_logging("test_names", "t-1", stub.url)
    again = setup_rest_logging("test_names", "t-1", stub.url)
    assert log is again
    assert len(log.handlers) == 1
    log.handlers[0].close()
