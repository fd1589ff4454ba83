"""PostgreSQL and nats-server for tests: as child processes, or in containers where images are named."""

import contextlib
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Protocol
from urllib.parse import quote

import psycopg2

from sluice_core.testing.waiting import eventually

__all__ = ["NatsServer", "PostgresServer", "StartNats", "images", "nats", "postgres"]

IMAGES = "SLUICE_TEST_IMAGES"
KNOWN = frozenset({"postgres", "nats", "activemq"})
# What a crash of the machine would lose does not matter to a test; that a killed process loses nothing still holds.
FAST = {"fsync": "off", "full_page_writes": "off"}
CONTAINER_TIMEOUT = 60.0


class _Server(Protocol):
    @property
    def running(self) -> bool:
        """Whether it is started and alive."""
        ...

    def start(self) -> None:
        """Start it, again after `kill` or `stop`; the main thread must do it. It keeps its port between the two."""
        ...

    def stop(self) -> None:
        """End it cleanly."""
        ...

    def kill(self) -> None:
        """``kill -9``; data and port stay for the next `start`."""
        ...


class PostgresServer(_Server, Protocol):
    """A PostgreSQL that a test may kill."""

    @property
    def admin_url(self) -> str:
        """SQLAlchemy URL of a superuser."""
        ...


class NatsServer(_Server, Protocol):
    """A nats-server with JetStream that a test may kill."""

    def url(self, user: str = "", password: str = "") -> str:
        """URL for a client."""
        ...


class StartNats(Protocol):
    """The fixture `start_nats`."""

    def __call__(self, authorization: str = "") -> NatsServer:
        """Start a server with this `authorization` block; it ends with the test."""
        ...


def images() -> Mapping[str, str]:
    """Images by server from ``SLUICE_TEST_IMAGES`` (``postgres=IMAGE,nats=IMAGE,activemq=IMAGE``).

    Raises
    ------
    ValueError
        The variable is not of this form.
    """
    chosen = {}
    for part in filter(None, os.environ.get(IMAGES, "").split(",")):
        name, _, image = part.partition("=")
        if name not in KNOWN or not image:
            raise ValueError(f"{IMAGES}: {part!r} is not one of {', '.join(sorted(KNOWN))} and an image (name=image)")
        chosen[name] = image
    return chosen


@contextlib.contextmanager
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL; nothing of it is left at the end."""
    image = images().get("postgres")
    if image:
        container = _PostgresContainer(image)
        with container.running_once():
            yield container
        return
    from sluice_embedded import Postgres  # not a dependency: only tests have it

    with tempfile.TemporaryDirectory() as folder, Postgres(Path(folder), settings=FAST) as child:
        yield child


@contextlib.contextmanager
def nats(authorization: str = "") -> Iterator[NatsServer]:
    """Run a nats-server; nothing of it is left at the end.

    Parameters
    ----------
    authorization
        Configuration text that says who may do what; without it everybody may do everything.
    """
    image = images().get("nats")
    if image:
        container = _NatsContainer(image, authorization)
        with container.running_once():
            yield container
        return
    from sluice_embedded import Nats

    with tempfile.TemporaryDirectory() as folder, Nats(Path(folder), authorization=authorization) as child:
        yield child


class _Container:
    """One container that keeps its host port over restarts.

    The library's own classes for these servers wait with its deprecated means, and would get another port.
    """

    port: ClassVar[int]

    def __init__(self, image: str) -> None:
        from testcontainers.core.container import DockerContainer

        with socket.socket() as free:
            free.bind(("", 0))
            host_port = free.getsockname()[1]
        self._container = DockerContainer(image).with_bind_ports(self.port, host_port)
        self.address = ("", 0)
        """Host and port for clients."""

    @contextlib.contextmanager
    def running_once(self) -> Iterator[None]:
        """Create and start the container; remove it at the end."""
        with self._container:
            # Asked once, since the library waits for a container that does not run.
            self.address = self._container.get_container_host_ip(), self._container.get_exposed_port(self.port)
            self._wait()
            yield

    @property
    def running(self) -> bool:
        self._container.reload()
        return self._container.status == "running"

    def start(self) -> None:
        self._container.get_wrapped_container().start()
        self._wait()

    def stop(self) -> None:
        self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        if self.running:
            container = self._container.get_wrapped_container()
            container.kill()
            container.wait()

    def _wait(self) -> None:
        try:
            eventually(self._answers, CONTAINER_TIMEOUT)
        except AssertionError as exc:
            exc.add_note(b"".join(self._container.get_logs()).decode(errors="replace"))
            raise

    def _answers(self) -> bool:
        raise NotImplementedError


class _PostgresContainer(_Container):
    port = 5432

    def __init__(self, image: str) -> None:
        super().__init__(image)
        self._password = secrets.token_urlsafe(12)
        self._container.with_env("POSTGRES_PASSWORD", self._password)
        settings = [argument for name, value in FAST.items() for argument in ("-c", f"{name}={value}")]
        self._container.with_command(["postgres", *settings])

    @property
    def admin_url(self) -> str:
        host, port = self.address
        return f"postgresql+psycopg2://postgres:{self._password}@{host}:{port}/postgres"

    def _answers(self) -> bool:
        host, port = self.address
        try:
            psycopg2.connect(
                host=host, port=port, user="postgres", password=self._password, dbname="postgres", connect_timeout=2
            ).close()
        except psycopg2.OperationalError:
            return False
        return True


class _NatsContainer(_Container):
    port = 4222

    def __init__(self, image: str, authorization: str) -> None:
        from sluice_embedded.nats import configuration

        super().__init__(image)
        self._name = f"test-{secrets.token_hex(4)}"
        text = configuration(
            name=self._name, listen=f"0.0.0.0:{self.port}", store=Path("/data"), authorization=authorization
        )
        self._container.with_command(["--config", "/nats.conf"])
        self._container.with_copy_into_container(text.encode(), "/nats.conf")

    def url(self, user: str = "", password: str = "") -> str:
        host, port = self.address
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
        return f"nats://{login}{host}:{port}"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(self.address, timeout=2) as connection:
                greeting = connection.makefile("rb").readline()
        except OSError:
            return False
        info = json.loads(greeting.removeprefix(b"INFO ") or b"{}")
        return bool(info.get("server_name") == self._name)
