"""An agent as swf-clients.md sections 4-6 describe the real ones, less its broker; a process of its own.

It reads the variables of the real ones (``SWF_MONITOR_URL``, ``SWF_MONITOR_HTTP_URL``, ``SWF_API_TOKEN``, and
``REQUESTS_CA_BUNDLE`` by way of requests), lives until a signal ends it, and tells what it does as lines of JSON.
"""

import argparse
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import requests

TIMEOUT = 10
RETRIED = frozenset({404, 500, 502, 503, 504})
DELAYS = (2, 5, 10, 20, 40, 60)
"""Seconds between the tries of one request (4.1)."""
ID_DELAYS = range(5, 65, 5)
"""And between those of the first one, for ever (4.1)."""


_telling = threading.Lock()


def tell(**what: Any) -> None:
    """Write a line for whoever started us."""
    with _telling:
        print(json.dumps(what), flush=True)


class APIError(Exception):
    """Refused for good; the text is status and body."""


class RestHandler(logging.Handler):
    """Posts each record by itself, without a token, and falls back to the console (6)."""

    def __init__(self, url: str, instance: str) -> None:
        super().__init__()
        self._url = f"{url}/api/logs/"
        self._instance = instance
        self._session = requests.Session()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record; never raises."""
        body = {
            "app_name": "base_agent",
            "instance_name": self._instance,
            "timestamp": datetime.fromtimestamp(record.created).isoformat(),  # noqa: DTZ006 - they send local time
            "level": record.levelno,
            "levelname": record.levelname,
            "message": record.getMessage(),
            "module": record.module,
            "funcname": record.funcName or "unknown",
            "lineno": record.lineno,
            "process": record.process,
            "thread": record.thread,
            "extra_data": getattr(record, "extra_data", None),
        }
        try:
            self._session.post(self._url, json=body, timeout=TIMEOUT).raise_for_status()
        except requests.RequestException as exc:
            print(f"{record.levelname} {record.getMessage()} ({exc})", file=sys.stderr)


class Agent:
    """One agent.

    Parameters
    ----------
    url, http_url
        Of the authenticated API, and of the log door.
    token
        Sent as ``Authorization: Token``; none, no header.
    kind
        Free text, such as ``DATA``.
    destination
        What it would subscribe to.
    every
        Seconds between two heartbeats; the real ones take 60.
    """

    def __init__(
        self,
        url: str,
        http_url: str,
        token: str | None,
        *,
        kind: str,
        user: str,
        namespace: str,
        destination: str,
        every: float,
    ) -> None:
        self._url = url.rstrip("/")
        self._kind = kind
        self._namespace = namespace
        self._destination = destination
        self._every = every
        self._stopping = threading.Event()
        self._session = requests.Session()
        if token:
            self._session.headers["Authorization"] = f"Token {token}"
        self._state = "STARTING"
        self.name = f"{kind.lower()}-agent-{user}-{self._next_id()}"
        self._log = logging.getLogger(self.name)
        self._log.setLevel(logging.DEBUG)
        self._log.addHandler(RestHandler(http_url.rstrip("/"), self.name))

    def run(self) -> None:
        """Register, then beat until `stop`."""
        self._subscribe()
        self._state = "READY"
        self.heartbeat()
        tell(event="ready", name=self.name, listed=self._listed_as())
        self._log.info("%s is ready", self.name, extra={"extra_data": {"username": self._namespace}})
        tell(event="logged")
        while not self._stopping.wait(self._every):
            try:
                self.heartbeat()
            except (APIError, requests.RequestException):
                self._log.warning("heartbeat not sent")
        self._state = "EXITED"
        self.heartbeat(status="EXITED", words="Agent shutdown")

    def stop(self) -> None:
        """End `run`, from a signal handler too."""
        self._stopping.set()

    def heartbeat(self, status: str = "OK", words: str = "MQ: connected") -> dict[str, Any]:
        """Say how it is."""
        beat = {
            "instance_name": self.name,
            "agent_type": self._kind,
            "status": status,
            "description": f"{self._kind} agent. {words}",
            "mq_connected": True,
            "pid": os.getpid(),
            "hostname": socket.gethostname(),
            "operational_state": self._state,
            "namespace": self._namespace,
        }
        return self._object("POST", "/systemagents/heartbeat/", beat)

    def _next_id(self) -> int:
        delays = iter(ID_DELAYS)
        while True:
            try:
                answer = self._object("POST", "/state/next-agent-id/")
            except (APIError, requests.RequestException, ValueError) as exc:
                tell(event="no id", reason=str(exc))
                self._stopping.wait(next(delays, ID_DELAYS[-1]))
                continue
            if answer.get("status") == "success":
                return int(answer["agent_id"])

    def _subscribe(self) -> None:
        body = {
            "subscriber_name": f"{self.name}-{self._destination}",
            "description": f"{self._kind} agent subscribing to {self._destination}",
            "is_active": True,
            "fraction": 1.0,
        }
        try:
            self._object("POST", "/subscribers/", body)
        except APIError as exc:
            said = str(exc).lower()
            if not said.startswith("400 ") or "already exists" not in said or "subscriber" not in said:
                raise

    def _listed_as(self) -> Mapping[str, Any] | None:
        """Return its own entry in the list of agents: its health check."""
        answer = self._request("GET", "/systemagents/")
        found = answer if isinstance(answer, list) else answer["results"]
        return next((each for each in found if each["instance_name"] == self.name), None)

    def _object(self, method: str, endpoint: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answer = self._request(method, endpoint, body)
        if not isinstance(answer, dict) or not answer:
            raise APIError(f"no object: {answer!r}")
        return answer

    def _request(self, method: str, endpoint: str, body: Mapping[str, Any] | None = None) -> Any:
        for delay in (*DELAYS, None):
            try:
                reply = self._session.request(
                    method, f"{self._url}/api{endpoint}", json=body, timeout=TIMEOUT, allow_redirects=False
                )
            except (requests.ConnectionError, requests.Timeout):
                tell(event="request", method=method, endpoint=endpoint, status=None)
                if delay is None:
                    raise
            else:
                tell(event="request", method=method, endpoint=endpoint, status=reply.status_code)
                if reply.status_code < 300:
                    return reply.json()
                if delay is None or reply.status_code not in RETRIED:
                    raise APIError(f"{reply.status_code} {reply.text}")
            self._stopping.wait(delay)
        raise AssertionError("unreachable")


def main() -> None:
    """Live until SIGTERM, SIGQUIT or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", default="DATA")
    parser.add_argument("--user", default="ada")
    parser.add_argument("--namespace", default="ada-test")
    parser.add_argument("--destination", default="/topic/epictopic")
    parser.add_argument("--every", type=float, default=60.0)
    parser.add_argument("--agents", type=int, default=1, help="so many at once, each by itself")
    given = vars(parser.parse_args())
    count = given.pop("agents")
    url, http_url = os.environ["SWF_MONITOR_URL"], os.environ["SWF_MONITOR_HTTP_URL"]
    alive: list[Agent] = []

    def live() -> None:
        agent = Agent(url, http_url, os.environ.get("SWF_API_TOKEN"), **given)
        alive.append(agent)
        agent.run()

    def end(*_: object) -> None:
        for agent in alive:
            agent.stop()

    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        signal.signal(number, end)
    with ThreadPoolExecutor(count) as threads:
        lives = [threads.submit(live) for _ in range(count)]
        for each in lives:
            each.add_done_callback(end)  # one that fails does not leave the others
    for each in lives:
        each.result()


if __name__ == "__main__":
    main()
