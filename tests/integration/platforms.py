"""`sluice up` and `sluice serve` as processes of their own, and a client for them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import nats
import requests
from prometheus_client.parser import text_string_to_metric_families

from sluice_core.testing import eventually
from sluice_embedded.process import processes_in

__all__ = ["BIN", "Client", "Serve", "Up", "clean_environment", "samples"]

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


def samples(url: str, name: str) -> dict[frozenset[tuple[str, str]], float]:
    """Return the samples of one metric at an admin port, by their labels."""
    text = requests.get(f"{url}/metrics", timeout=10).text
    families = text_string_to_metric_families(text)
    found = [sample for family in families for sample in family.samples if sample.name == name]
    return {frozenset(sample.labels.items()): sample.value for sample in found}


class _Process:
    """A command that writes a log and ends at SIGTERM."""

    def __init__(self, log_file: Path, environment: Mapping[str, str]) -> None:
        self.log_file = log_file
        self._environment = clean_environment(**environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._before = 0

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
        with self.log_file.open("ab") as log:
            self._before = log.tell()
            self._process = subprocess.Popen(
                self._command(), env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        eventually(self._find, START)

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

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it said since it was started last."""
        return self.log_file.read_bytes()[self._before :].decode(errors="replace")

    def _command(self) -> list[str | Path]:
        raise NotImplementedError

    def _find(self) -> bool:
        """Whether it has said where it is."""
        assert self._process is not None
        if not self.running:
            # Not an AssertionError: that would only be waited for.
            raise RuntimeError(f"it ended with {self._process.returncode}\n{self.log}")
        return self._look(self._process.pid)

    def _look(self, pid: int) -> bool:
        raise NotImplementedError


class Up(_Process):
    """One `sluice up` on kernel-chosen ports; as a context manager it runs.

    Parameters
    ----------
    data
        Its data directory.
    environment
        Variables for it alone.
    """

    def __init__(self, data: Path, **environment: str) -> None:
        super().__init__(data.with_name(f"{data.name}.log"), environment)
        self.data = data
        self.keeps_ports = False
        """Whether the next start takes the ports of the one before, for clients that know no others."""
        self._facts: dict[str, Any] = {}

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

    async def say(self, subject: str, data: bytes) -> None:
        """Publish by NATS, as a program."""
        client = await nats.connect(str(self._facts["nats"]), user="programs", password=self.password("nats programs"))
        await client.publish(subject, data)
        await client.drain()

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
    def stomp(self) -> tuple[str, int]:
        """Host and port of the STOMP door."""
        found = urlsplit(self._facts["stomp"])
        assert found.hostname is not None
        assert found.port is not None
        return found.hostname, found.port

    @property
    def postgres(self) -> str:
        """Host and port of PostgreSQL."""
        return str(self._facts["postgres"])

    @property
    def services(self) -> list[str]:
        """Names of the services that it runs."""
        return list(self._facts["services"])

    @property
    def token(self) -> str:
        """The first admin token."""
        return (self.data / "admin-token").read_text().strip()

    def _command(self) -> list[str | Path]:
        command: list[str | Path] = [BIN / "sluice", "up", "--data", self.data]
        options = {"--http": "http", "--https": "https", "--admin": "admin", "--nats-port": "nats"}
        if "ACTIVEMQ_HOST" not in self._environment:
            options["--stomp"] = "stomp"
        for option, fact in options.items():
            port = urlsplit(self._facts[fact]).port if self.keeps_ports else 0
            command += [option, str(port)]
        return command

    def _look(self, pid: int) -> bool:
        try:
            self._facts = json.loads((self.data / "up.json").read_text())
        except (OSError, ValueError):
            return False
        return bool(self._facts["pids"]["sluice"] == pid)


class Serve(_Process):
    """One `sluice serve` on kernel-chosen ports; as a context manager it runs.

    Parameters
    ----------
    service
        Its name.
    folder
        For its log.
    database_url, nats_url
        Where its servers are.
    environment
        More variables.
    """

    def __init__(self, service: str, folder: Path, *, database_url: str, nats_url: str, **environment: str) -> None:
        mine = {f"SLUICE_{service.upper()}_DATABASE_URL": database_url, "SLUICE_NATS_URL": nats_url}
        super().__init__(folder / f"{service}.log", mine | environment)
        self.service = service
        self.http = ""
        self.admin = ""

    def ready(self) -> bool:
        """Whether it says that it is."""
        return requests.get(f"{self.admin}/readyz", timeout=10).status_code == 200

    def _command(self) -> list[str | Path]:
        return [BIN / "sluice", "serve", self.service, "--host", "127.0.0.1", "--http", "0", "--admin", "0"]

    def _look(self, pid: int) -> bool:
        for line in self.log.splitlines():
            if line.startswith("{") and line.endswith("}") and (said := json.loads(line))["event"] == "ready":
                self.http, self.admin = said["http"], said["admin"]
                return True
        return False
