"""A real nats-server with JetStream in a folder."""

import json
import os
import secrets
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from sluice_embedded import binaries
from sluice_embedded.process import LOCALHOST, Server

__all__ = ["Nats", "configuration"]

MAX_PAYLOAD = 8 * 1024 * 1024


def configuration(*, name: str, listen: str, store: Path, authorization: str = "", monitor: str | None = None) -> str:
    """Configuration of one nats-server as the platform needs it.

    Parameters
    ----------
    name
        Of the server, in its greeting.
    listen, monitor
        ``host:port`` for clients, and for health when given.
    store
        Folder of JetStream.
    authorization
        Configuration text that says who may do what.
    """
    lines = [
        f"server_name: {name}",
        f"listen: {json.dumps(listen)}",
        f"max_payload: {MAX_PAYLOAD}",
        # without "always" an acknowledged message can be two minutes away from its fsync
        f"jetstream {{ store_dir: {json.dumps(str(store))}, sync_interval: always }}",
        authorization,
    ]
    if monitor is not None:
        lines.append(f"http: {json.dumps(monitor)}")
    return "\n".join(lines) + "\n"


class Nats(Server):
    """nats-server on 127.0.0.1, with a JetStream that answers after its fsync.

    Parameters
    ----------
    data
        Folder of this server alone: ``jetstream``, ``nats.conf``, ``log``, ``lock``.
    port, timeout
        As in `Server`.
    authorization
        Text of the configuration that says who may do what (``authorization { ... }`` or ``accounts { ... }``), or
        a function that makes it at each start. Empty: everybody may do everything.
    monitor_port
        Where ``/healthz`` and ``/varz`` answer; 0 lets the kernel choose, None is nowhere.
    """

    program = "nats-server"
    stop_signal = signal.SIGTERM

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        timeout: float = 60,
        authorization: str | Callable[[], str] = "",
        monitor_port: int | None = None,
    ) -> None:
        super().__init__(data, port=port, timeout=timeout)
        self.authorization = authorization
        self.monitor_port = monitor_port
        self._name = f"sluice-{secrets.token_hex(4)}"
        self._config = self.data / "nats.conf"

    def url(self, user: str = "", password: str = "") -> str:
        """URL for a client, with `user` and `password` when given."""
        login = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
        return f"nats://{login}{LOCALHOST}:{self.port}"

    def _reserve_ports(self) -> None:
        super()._reserve_ports()
        if self.monitor_port is not None:
            self.monitor_port = self._reserve(self.monitor_port)

    def _prepare(self) -> None:
        text = configuration(
            name=self._name,
            listen=f"{LOCALHOST}:{self.port}",
            store=self.data,
            authorization=self.authorization() if callable(self.authorization) else self.authorization,
            monitor=None if self.monitor_port is None else f"{LOCALHOST}:{self.monitor_port}",
        )
        with os.fdopen(os.open(self._config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)

    def _command(self) -> list[str]:
        return [str(binaries.nats_server()), "--config", str(self._config)]

    def _ready(self, timeout: float) -> bool:
        """Whether the greeting is that of our server, with JetStream: it listens only after that has recovered."""
        try:
            with socket.create_connection((LOCALHOST, self.port), timeout=timeout) as connection:
                greeting = connection.makefile("rb").readline()
        except OSError:
            return False
        info = json.loads(greeting.removeprefix(b"INFO ") or b"{}")
        return info.get("server_name") == self._name and info.get("jetstream") is True
