"""`sluice up` as a broker: with TLS, and for a shell that has read `sluice env`."""

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from .support import running


def answer(connection: socket.socket, token: str) -> bytes:
    connection.sendall(f"CONNECT\naccept-version:1.1\nhost:x\nlogin:x\npasscode:{token}\n\n\0".encode())
    return connection.recv(9)


def test_stomp_is_there_with_tls_and_a_shell_that_knows_it_does_not_take_it_for_another_broker(tmp_path: Path) -> None:
    """Scenario 16 of swf-clients.md: a wrong authority, then the right one."""
    data = tmp_path / "data"
    options = ("--only", "registry", "--only", "stream", "--stomp", "0")
    with running(data, *options) as first:
        token = (data / "admin-token").read_text().strip()
        with socket.create_connection(_place(first.facts["stomp"]), timeout=10) as connection:
            assert answer(connection, token) == b"CONNECTED"
        assert first.end() == 0
    env = {"ACTIVEMQ_HOST": "127.0.0.1", "ACTIVEMQ_PORT": "61613", "ACTIVEMQ_PASSWORD": token}
    with running(data, *options, "--stomp-tls", "0", env=env) as second:
        place = _place(second.facts["stomp_tls"])
        with socket.create_connection(place, timeout=10) as plain, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
        right = ssl.create_default_context(cafile=second.facts["certificate"])
        with right.wrap_socket(socket.create_connection(place, timeout=10), server_hostname="localhost") as connection:
            assert answer(connection, token) == b"CONNECTED"
        with socket.create_connection(_place(second.facts["stomp"]), timeout=10) as connection:
            assert answer(connection, token) == b"CONNECTED"
        assert second.end() == 0


def _place(url: str) -> tuple[str, int]:
    found = urlsplit(url)
    return str(found.hostname), int(found.port or 0)
