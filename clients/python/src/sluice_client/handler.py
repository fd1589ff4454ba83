"""A logging handler that sends records to the log service and never makes the program wait."""

import atexit
import json
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import requests

__all__ = ["LogHandler"]

log = logging.getLogger("sluice_client")

# Fields that the log service can find records by.
EXTRA = ("execution_id", "workflow_name", "run_id", "username")
# Of one request.
BATCH_RECORDS = 1000
BATCH_BYTES = 2**20
# Characters of one message; the service takes 4 MB a record, and a character may need six bytes in JSON.
LONGEST = 500_000
# Characters that wait in memory.
WAITING = 16 * 2**20
# Seconds in which records gather for one request.
GATHER = 0.1
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
# Seconds after which a server that takes no batches is asked again whether it does: it may have been replaced.
ONE_BY_ONE = 600.0
NDJSON = "application/x-ndjson"
JSON = "application/json"


class _Entry(NamedTuple):
    """What is needed of a record, taken while the program still waits; its arguments may change afterwards."""

    created: float
    level: int
    levelname: str
    message: str
    module: str
    funcname: str
    lineno: int
    process: int
    thread: int
    extra: dict[str, Any] | None


class _Away(Exception):
    """Nobody has taken it; it may be sent again."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class LogHandler(logging.Handler):
    """Sends log records in the background, many in one request.

    A record that is logged costs the program some microseconds, whatever the network does. What cannot be sent waits,
    and is sent again when the service is back; what is more than may wait is dropped and counted, and the service gets
    a record that tells how many. An answer that was lost on the way makes records come twice. Against a server that
    takes one record a request it sends them so.

    Parameters
    ----------
    base_url
        Of the service, prefix included.
    app_name, instance_name
        Whose records they are.
    fallback_handler
        Gets every record too, at once and in the program's own thread: usually the console.
    timeout
        Seconds for one request.
    token
        Sent as ``Authorization: Token``, where the site wants one.
    capacity
        Records that may wait.
    flush_timeout
        Seconds that `flush`, and so the end of the program, waits at the most.

    Attributes
    ----------
    sent
        Records that the service has.
    dropped
        Records that nobody has got: there were too many, or the program ended first.
    rejected
        Records that the service refused.
    """

    def __init__(
        self,
        base_url: str,
        app_name: str,
        instance_name: str,
        fallback_handler: logging.Handler | None = None,
        timeout: float = 5,
        *,
        token: str | None = None,
        capacity: int = 10_000,
        flush_timeout: float = 5.0,
    ) -> None:
        super().__init__()
        self.logs_url = f"{base_url.rstrip('/')}/api/logs/"
        self.app_name = app_name
        self.instance_name = instance_name
        self.fallback_handler = fallback_handler
        self.timeout = timeout
        self.sent = 0
        self.dropped = 0
        self.rejected = 0
        self._token = token
        self._capacity = capacity
        self._flush_timeout = flush_timeout
        self._closing = self._closed = False
        self._begin()
        # Before `logging` closes its handlers, and also where somebody took this one out of its list.
        atexit.register(self.close)

    def _begin(self) -> None:
        """Start with an empty queue; a forked child's records are its own."""
        self._pid = os.getpid()
        self._queue: deque[_Entry] = deque()
        # Records and characters that came, and those that went; each is written by one side alone.
        self._came = self._went = 0
        self._came_size = self._went_size = 0
        self._untold = 0
        self._news = threading.Event()
        self._hurry = threading.Event()
        self._settled = threading.Condition()
        self._give_up_at: float | None = None
        self._one_by_one_until = 0.0
        self._warned = False
        self._session = requests.Session()
        # A proxy of the site does not lead back to this machine.
        self._session.trust_env = not _is_local(self.logs_url)
        if self._token:
            self._session.headers["Authorization"] = f"Token {self._token}"
        self._thread: threading.Thread | None = None
        self._own = 0

    # In the threads of the program

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; never waits for the network. Called with the handler's lock."""
        if threading.get_ident() == self._own:
            return  # what sending itself logs would be sent again for ever
        try:
            self._take(record)
        except Exception:
            self.handleError(record)
        if self.fallback_handler is not None:
            self.fallback_handler.handle(record)

    def flush(self) -> None:
        """Send what waits; returns when it is sent, and after ``flush_timeout`` in any case."""
        if self._closed or self._thread is None or self._pid != os.getpid() or threading.get_ident() == self._own:
            return
        until = time.monotonic() + self._flush_timeout
        self._hurry.set()
        self._news.set()
        with self._settled:
            self._settled.wait_for(lambda: self._went == self._came, until - time.monotonic())
        if not self._closing:
            self._hurry.clear()

    def close(self) -> None:
        """Send what waits, as `flush` does, and drop the rest."""
        if self._closing:
            return
        self._closing = True
        atexit.unregister(self.close)
        self._give_up_at = time.monotonic() + self._flush_timeout
        self.flush()
        # `logging` flushes its handlers once more when the program ends.
        self._closed = True
        self.dropped += self._came - self._went
        super().close()

    def _take(self, record: logging.LogRecord) -> None:
        if self._pid != os.getpid():
            self._begin()
        message = record.getMessage()
        if record.exc_info or record.stack_info:
            message = _with_trace(message, record)
        if len(message) > LONGEST:
            message = message[:LONGEST]
        waiting = self._came_size - self._went_size + len(message)
        if self._closing or len(self._queue) >= self._capacity or waiting > WAITING:
            self.dropped += 1
            self._untold += 1
            return
        known = record.__dict__
        extra = {name: known[name] for name in EXTRA if name in known}
        self._came += 1
        self._came_size += len(message)
        self._queue.append(
            _Entry(
                record.created,
                record.levelno,
                record.levelname,
                message,
                record.module,
                record.funcName or "",
                record.lineno,
                record.process or 0,
                record.thread or 0,
                extra or None,
            )
        )
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log records", daemon=True)
            self._thread.start()
        if not self._news.is_set():
            self._news.set()

    # In the thread of the handler

    def _run(self) -> None:
        self._own = threading.get_ident()
        while not (self._closing and not self._queue):
            self._news.wait()
            self._hurry.wait(GATHER)
            self._news.clear()
            while batch := self._next():
                told = self._told()
                if not self._deliver([self._encode(entry) for entry in (*told, *batch)]):
                    return
                with self._settled:
                    self._went_size += sum(len(entry.message) for entry in batch)
                    self._went += len(batch)
                    self._settled.notify_all()
        self._session.close()

    def _told(self) -> list[_Entry]:
        """Return what tells the service that records were dropped, if some were."""
        self.acquire()
        count, self._untold = self._untold, 0
        self.release()
        return [_about_dropped(count)] if count else []

    def _next(self) -> list[_Entry]:
        """Take records out of the queue, as many as make one request."""
        batch: list[_Entry] = []
        size = 0
        while self._queue and len(batch) < BATCH_RECORDS and size < BATCH_BYTES:
            batch.append(self._queue.popleft())
            size += len(batch[-1].message)
        return batch

    def _encode(self, entry: _Entry) -> bytes:
        level = min(50, max(0, entry.level // 10 * 10))
        record = {
            "app_name": self.app_name,
            "instance_name": self.instance_name,
            "timestamp": datetime.fromtimestamp(entry.created).astimezone().isoformat(),
            "level": level,
            "levelname": entry.levelname[:50] or str(entry.level),
            "message": entry.message if entry.message.strip() else "-",
            "module": entry.module[:255] or "unknown",
            "funcname": entry.funcname[:255] or "unknown",
            "lineno": entry.lineno,
            "process": entry.process,
            "thread": entry.thread,
            "extra_data": entry.extra,
        }
        text = json.dumps(record, default=str, ensure_ascii=False, separators=(",", ":"))
        # What no server can store: NUL, which JSON writes so, and halves of surrogate pairs.
        return text.replace("\\u0000", "\ufffd").encode("utf-8", "replace")

    def _deliver(self, lines: list[bytes]) -> bool:
        """Send records until somebody has taken them; False when the program ends first."""
        pause = FIRST_PAUSE
        while lines:
            try:
                lines = self._send(lines)
            except (_Away, requests.RequestException) as exc:
                self._warn(exc)
                if self._give_up_at is not None and time.monotonic() + FIRST_PAUSE > self._give_up_at:
                    return False
                # Not all programs at once when the service is back.
                wanted = max(getattr(exc, "wait", 0.0), pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                if self._hurry.is_set():
                    time.sleep(min(wanted, FIRST_PAUSE))
                else:
                    self._hurry.wait(wanted)
                pause = min(LONGEST_PAUSE, pause * 2)
            else:
                self._warned = False
                pause = FIRST_PAUSE
        return True

    def _send(self, lines: list[bytes]) -> list[bytes]:
        """Make one request; return what is still to be sent."""
        if len(lines) == 1 or time.monotonic() < self._one_by_one_until:
            self._post(JSON, lines[0], 1)
            return lines[1:]
        if self._post(NDJSON, b"\n".join(lines), len(lines)):
            return []
        self._one_by_one_until = time.monotonic() + ONE_BY_ONE
        return lines

    def _post(self, media: str, body: bytes, count: int) -> bool:
        """Send records; False when the server does not know their media type, and they are to be sent otherwise."""
        reply = self._session.post(
            self.logs_url, data=body, headers={"Content-Type": media}, timeout=self.timeout, allow_redirects=False
        )
        rejected = _rejected(reply) if media == NDJSON else 0
        if reply.ok and not 300 <= reply.status_code < 400:
            self.sent += count - rejected
            self.rejected += rejected
            return True
        if media == NDJSON and reply.status_code in (400, 415) and not rejected:
            return False
        if 400 <= reply.status_code < 500 and reply.status_code not in (408, 429):
            self.rejected += count
            self._warn(_Away(f"{reply.status_code}: {reply.text[:200]}"))
            return True
        raise _Away(f"{self.logs_url} answers {reply.status_code}", _retry_after(reply))

    def _warn(self, reason: Exception) -> None:
        """Say once an outage that there is one."""
        if not self._warned:
            self._warned = True
            log.warning("log records do not reach %s: %s", self.logs_url, reason)


def _with_trace(message: str, record: logging.LogRecord) -> str:
    trace = ""
    if record.exc_info and record.exc_info[0] is not None:
        trace = logging.Formatter().formatException(record.exc_info)
    return "\n".join(part for part in (message, trace, record.stack_info) if part)


def _about_dropped(count: int) -> _Entry:
    message = f"{count} log records were dropped: more came than could be sent"
    return _Entry(
        time.time(), logging.WARNING, "WARNING", message, "handler", "emit", 0, os.getpid(), threading.get_ident(), None
    )


def _rejected(reply: requests.Response) -> int:
    try:
        found: Sequence[Any] = reply.json()["rejected"]
        return len(found)
    except (ValueError, KeyError, TypeError):
        return 0


def _retry_after(reply: requests.Response) -> float:
    try:
        return min(LONGEST_PAUSE, max(0.0, float(reply.headers.get("Retry-After", "0"))))
    except ValueError:
        return 0.0


def _is_local(url: str) -> bool:
    return url.partition("://")[2].startswith(("localhost", "127.", "[::1]"))
