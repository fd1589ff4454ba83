"""PostgreSQL and nats-server for tests: as child processes, or in containers where images are named."""

import json
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol

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


def postgres(data: Path) -> PostgresServer:
    """Return a PostgreSQL, not yet started, that keeps its data under `data` if it is no container."""
    image = images().get("postgres")
    if image:
        return _PostgresContainer(image)
    from sluice_embedded import Postgres  # not a dependency: only tests have it

    return Postgres(data, settings=FAST)


def nats(data: Path, authorization: str = "") -> NatsServer:
    """Return a nats-server, not yet started, that keeps its data under `data` if it is no container."""
    image = images().get("nats")
    if image:
        return _NatsContainer(image, authorization)
    from sluice_embedded import Nats

    return Nats(data, authorization=authorization)


class _Container:
    """One container that keeps its host port over restarts.

    The library's own classes of these servers wait with its deprecated means, and would give another port.
    """

    port: ClassVar[int]

    def __init__(self, image: str) -> None:
        from testcontainers.core.container import DockerContainer

        with socket.socket() as free:
            free.bind(("", 0))
            host_port = free.getsockname()[1]
        self._container = DockerContainer(image).with_bind_ports(self.port, host_port)
        self._started = False

    @property
    def running(self) -> bool:
        if self._started:
            self._container.reload()
        return self._started and self._container.status == "running"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port for clients."""
        return self._container.get_container_host_ip(), self._container.get_exposed_port(self.port)

    def start(self) -> None:
        if self._started:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._started = True
        try:
            eventually(self._answers, CONTAINER_TIMEOUT)
        except AssertionError as exc:
            exc.add_note(b"".join(self._container.get_logs()).decode(errors="replace"))
            raise

    def stop(self) -> None:
        """Remove it."""
        if self._started:
            self._container.stop()
            self._started = False

    def kill(self) -> None:
        container = self._container.get_wrapped_container()
        container.kill()
        container.wait()

    def _answers(self) -> bool:
        raise NotImplementedError


class _PostgresContainer(_Container):
    port = 5432

    def __init__(self, image: str) -> None:
        super().__init__(image)
        self._password = secrets.token_urlsafe(12)
        self._container.with_env("POSTGRES_PASSWORD", self._password)

    @property
    def admin_url(self) -> str:
        host, port = self.address
        return f"postgresql+psycopg2://postgres:{self._password}@{host}:{port}/postgres"

    def _answers(self) -> bool:
        import psycopg2

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
        return f"nats://{user}:{password}@{host}:{port}" if user else f"nats://{host}:{port}"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(self.address, timeout=2) as connection:
                greeting = connection.makefile("rb").readline()
        except OSError:
            return False
        info = json.loads(greeting.removeprefix(b"INFO ") or b"{}")
        return bool(info.get("server_name") == self._name)
