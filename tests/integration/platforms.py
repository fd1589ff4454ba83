"""`sluice up` as a process of its own, and a client for it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from sluice_core.testing import eventually
from sluice_embedded.process import processes_in

__all__ = ["BIN", "Client", "Up", "clean_environment"]

BIN = Path(sys.executable).parent
START = 60.0
OURS = ("SLUICE_", "SWF_", "ACTIVEMQ_", "REQUESTS_CA_BUNDLE", "OTEL_")


def clean_environment(**more: str) -> dict[str, str]:
    """Return the environment without what would reach the platform or its clients, and with `more`."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)} | more


class Client:
    """HTTP as a program speaks it: one kept connection, no redirects followed, a time limit.

    Parameters
    ----------
    url
        Base URL, prefix included.
    token
        Sent as ``Authorization: Token``.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False
        if token is not None:
            self._session.headers["Authorization"] = f"Token {token}"

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        """Make a request; `options` are those of requests."""
        return self._session.request(method, self.url + path, **{"timeout": 20, "allow_redirects": False, **options})

    def get(self, path: str, **options: Any) -> requests.Response:
        """GET a path."""
        return self("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        """POST a JSON body, or none."""
        return self("POST", path, json=body, **options)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()


class Up:
    """One `sluice up` on kernel-chosen ports; as a context manager it runs.

    Parameters
    ----------
    data
        Its data directory.
    environment
        Variables for it alone.
    """

    def __init__(self, data: Path, **environment: str) -> None:
        self.data = data
        self._environment = clean_environment(**environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._facts: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _where: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop()

    def start(self) -> None:
        """Start it, and wait until it says where it is."""
        ports = [word for port in ("http", "https", "admin", "nats-port") for word in (f"--{port}", "0")]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [BIN / "sluice", "up", "--data", self.data, *ports],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._facts = eventually(self._find, START)

    def kill(self) -> None:
        """``kill -9``."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> float:
        """Send SIGTERM; return the seconds that it took to end."""
        assert self._process is not None
        began = time.monotonic()
        self._process.terminate()
        try:
            status = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"SIGTERM does not end it\n{self.log}") from None
        took = time.monotonic() - began
        self._process = None
        assert status == 0, f"it ended with {status}\n{self.log}"
        return took

    def client(self, *, anonymous: bool = False, tls: bool = False) -> Client:
        """Return a client of its own connection, with the admin token unless `anonymous`."""
        return Client(self.https if tls else self.http, None if anonymous else self.token)

    def children(self) -> list[int]:
        """Return the processes of its PostgreSQL and its nats-server, also those that outlived it."""
        return processes_in(self.data / "postgres" / "cluster", "postgres") + processes_in(
            self.data / "nats", "nats-server"
        )

    def password(self, name: str) -> str:
        """Return the password of a bus user (``nats logs``) or database role (``postgres logs``)."""
        known: Mapping[str, str] = json.loads((self.data / "passwords.json").read_text())
        return known[name]

    @property
    def http(self) -> str:
        """Base URL, prefix included."""
        return str(self._facts["http"])

    @property
    def https(self) -> str:
        """Base URL of the port with TLS."""
        return str(self._facts["https"])

    @property
    def admin(self) -> str:
        """Base URL of the admin port."""
        return str(self._facts["admin"])

    @property
    def postgres(self) -> str:
        """Host and port of PostgreSQL."""
        return str(self._facts["postgres"])

    @property
    def nats(self) -> str:
        """URL of the nats-server, without credentials."""
        return str(self._facts["nats"])

    @property
    def services(self) -> list[str]:
        """Names of the services that it runs."""
        return list(self._facts["services"])

    @property
    def token(self) -> str:
        """The first admin token."""
        return (self.data / "admin-token").read_text().strip()

    @property
    def log_file(self) -> Path:
        """What it and the runs before it said."""
        return self.data.with_name(f"{self.data.name}.log")

    @property
    def log(self) -> str:
        """What it said, its end at the least."""
        return self.log_file.read_text(errors="replace")[-20_000:]

    def _find(self) -> dict[str, Any]:
        assert self._process is not None
        if self._process.poll() is not None:
            # Not an AssertionError: it would only be waited for.
            raise RuntimeError(f"sluice up ended with {self._process.returncode}\n{self.log}")
        try:
            found: dict[str, Any] = json.loads((self.data / "up.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if found["pids"]["sluice"] == self._process.pid else {}
