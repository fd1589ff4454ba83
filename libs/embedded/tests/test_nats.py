"""nats-server in a folder."""

import json
import socket
import stat
import urllib.request
from pathlib import Path
from typing import Any

import nats
import pytest

from sluice_embedded import Nats, StartFailed

USERS = 'authorization { users = [ { user: "one", password: "s3cret", permissions: { publish: "a.>" } } ] }'


def greeting(server: Nats) -> dict[str, Any]:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        reply: dict[str, Any] = json.loads(connection.makefile("rb").readline().removeprefix(b"INFO "))
    return reply


def test_it_takes_8_megabytes_and_has_jetstream(tmp_path: Path) -> None:
    with Nats(tmp_path) as server:
        info = greeting(server)
    assert (info["max_payload"], info["jetstream"]) == (8 * 1024 * 1024, True)


async def test_an_acknowledged_message_survives_kill(tmp_path: Path) -> None:
    with Nats(tmp_path) as server:
        client = await nats.connect(server.url())
        stream = client.jetstream()
        await stream.add_stream(name="KEPT", subjects=["kept"])
        await stream.publish("kept", b"7")
        await client.close()
        server.kill()
        server.start()
        client = await nats.connect(server.url())
        message = await client.jetstream().get_msg("KEPT", 1)
        await client.close()
    assert message.data == b"7"


def answer_to(server: Nats, user: str, password: str) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        lines = connection.makefile("rb")
        lines.readline()
        login = json.dumps({"user": user, "pass": password, "verbose": False})
        connection.sendall(f"CONNECT {login}\r\nPING\r\n".encode())
        return lines.readline().strip()


def test_permissions_come_from_outside(tmp_path: Path) -> None:
    with Nats(tmp_path, authorization=lambda: USERS) as server:
        assert answer_to(server, "one", "s3cret") == b"PONG"
        assert answer_to(server, "one", "guess") == b"-ERR 'Authorization Violation'"
        assert stat.S_IMODE((tmp_path / "nats.conf").stat().st_mode) == 0o600


def test_the_monitor_port_tells_health(tmp_path: Path) -> None:
    with Nats(tmp_path, monitor_port=0) as server:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.monitor_port}/healthz") as reply:
            assert json.load(reply)["status"] == "ok"


def test_a_failed_start_shows_the_log(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="no_such_key"):
        Nats(tmp_path, authorization="no_such_key: 1").start()


def test_credentials_in_the_url_are_quoted() -> None:
    assert Nats(Path(), port=4222).url("a@b", "c/d") == "nats://a%40b:c%2Fd@127.0.0.1:4222"
