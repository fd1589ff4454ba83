"""What goes wrong between the bridge and its broker."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sluice_core.testing import eventually
from sluice_core.testing.activemq import ActiveMq, Broker
from sluice_stream.settings import Settings

from .conftest import Run
from .work import Nats, agent


def body(number: int) -> str:
    return json.dumps({"msg_type": "x", "number": number})


@contextlib.contextmanager
def pretender(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """Listen like a broker, and answer each connection in a way of the test's own."""
    held: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                held.append(connection)
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
    thread.join()
    for connection in held:
        connection.close()


def test_a_broker_that_dies_is_found_again_by_itself_and_everything_else_works_meanwhile(
    run: Run, own_broker: ActiveMq, topic: str
) -> None:
    """Scenario 25 of swf-monitor.md, shorter."""
    stream = run(own_broker, topic)
    stream.listening()
    with agent(own_broker) as (connection, _):
        connection.send(topic, body(0), headers={"persistent": "true"})
        stream.recorded(1)
    own_broker.kill()
    eventually(lambda: "no broker" in stream.bridge())
    assert stream.ready()
    assert stream.send({"msg_type": "x", "number": 1}).status_code == 202
    own_broker.start()
    stream.listening()
    with agent(own_broker) as (connection, _):
        stream.recorded(2)
        connection.send(topic, body(2))
        rows = stream.recorded(3)
    assert [row["message_content"]["number"] for row in rows] == [0, 1, 2]
    assert stream.metric("sluice_bridge_connections_total") == 2


def test_nats_that_dies_loses_nothing_and_doubles_nothing(run: Run, nats: Nats, broker: Broker, topic: str) -> None:
    stream = run(broker, topic)
    stream.listening()
    with agent(broker) as (connection, _):
        for number in range(200):
            connection.send(topic, body(number))
            if number == 50:
                nats.server.kill()
    nats.server.start()
    rows = stream.recorded(200, 40)
    assert sorted(row["message_content"]["number"] for row in rows) == list(range(200))
    assert nats.stored("MESSAGES") == 200


def test_with_tls_the_broker_is_known_by_its_authority_and_we_by_our_certificate(
    run: Run, own_broker: ActiveMq, topic: str
) -> None:
    """Also scenario 16 of swf-clients.md, from our side."""
    tls = {
        "activemq_port": own_broker.tls_port,
        "activemq_use_ssl": True,
        "activemq_ssl_ca_certs": str(own_broker.pki.ca),
        "activemq_ssl_cert_file": str(own_broker.pki.certificate),
        "activemq_ssl_key_file": str(own_broker.pki.key),
    }
    stream = run(own_broker, topic, **tls)
    stream.listening()
    with agent(own_broker) as (connection, _):
        for number in range(100):
            connection.send(topic, body(number))
        assert [row["message_content"]["number"] for row in stream.recorded(100)] == list(range(100))
    assert stream.send({"msg_type": "y"}).status_code == 202
    stream.recorded(101)
    stream.close()
    other = run(own_broker, topic, **{**tls, "activemq_ssl_ca_certs": str(own_broker.pki.certificate)})
    eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in other.bridge())
    other.close()
    nobody = run(own_broker, topic, **{**tls, "activemq_ssl_cert_file": "", "activemq_ssl_key_file": ""})
    eventually(lambda: nobody.bridge().startswith("no broker: "))


def test_tls_without_an_authority_is_no_plain_text(own_broker: ActiveMq, tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "database_url": "postgresql://x@y/z",
        "activemq_host": "localhost",
        "activemq_use_ssl": True,
    }
    with pytest.raises(ValidationError, match="without ACTIVEMQ_SSL_CA_CERTS"):
        Settings(**asked)
    with pytest.raises(ValidationError, match="cannot be read"):
        Settings(**asked, activemq_ssl_ca_certs=str(tmp_path / "absent.pem"))
    (tmp_path / "rubbish.pem").write_text("rubbish")
    with pytest.raises(ValidationError, match="cannot be read"):
        Settings(**asked, activemq_ssl_ca_certs=str(tmp_path / "rubbish.pem"))
    with pytest.raises(ValidationError, match="both or none"):
        Settings(**asked, activemq_ssl_ca_certs=str(own_broker.pki.ca), activemq_ssl_key_file=str(own_broker.pki.key))


def test_the_variables_of_the_contract_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SLUICE_STREAM_DATABASE_URL": "postgresql://x@y/z",
        "ACTIVEMQ_HOST": "mq.example",
        "ACTIVEMQ_PORT": "61612",
        "ACTIVEMQ_USER": "u",
        "ACTIVEMQ_PASSWORD": "p",
        "ACTIVEMQ_HEARTBEAT_TOPIC": "/topic/epictopic, /queue/other",
        "ACTIVEMQ_USE_SSL": "False",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.activemq_host, settings.activemq_port, settings.activemq_user) == ("mq.example", 61612, "u")
    assert settings.activemq_password.get_secret_value() == "p"
    assert settings.activemq_destinations == ("/topic/epictopic", "/queue/other")
    monkeypatch.setenv("SLUICE_STREAM_ACTIVEMQ_HOST", "other.example")
    assert Settings().activemq_host == "other.example"
    monkeypatch.setenv("ACTIVEMQ_HEARTBEAT_TOPIC", "epictopic")
    assert Settings().activemq_destinations == ("/topic/epictopic",)
    for bad in ("", "/epictopic", "/topic/", "/topic/a b"):
        monkeypatch.setenv("ACTIVEMQ_HEARTBEAT_TOPIC", bad)
        with pytest.raises(ValidationError, match="DESTINATIONS"):
            Settings()


def test_our_own_door_is_no_broker(run: Run, topic: str) -> None:
    greeting = b"CONNECTED\nversion:1.1\nserver:Sluice/1.0\nheart-beat:0,0\n\n\0"

    class Door:
        address = ("", 0)

    with pretender(lambda connection: connection.sendall(greeting)) as Door.address:
        stream = run(Door(), topic)
        eventually(lambda: "is our own door" in stream.bridge())
        assert stream.ready()
        stream.close()


def test_a_half_open_connection_is_given_up(run: Run, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens, and never says a word."""
    monkeypatch.setattr("sluice_stream.bridge.broker.TIMEOUT", 0.3)

    class Mute:
        address = ("", 0)

    with pretender(lambda connection: None) as Mute.address:
        stream = run(Mute(), topic)
        eventually(lambda: "does not greet" in stream.bridge())
        stream.close()


def test_a_bridge_that_hears_nothing_of_what_it_says_connects_anew(
    run: Run, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker greets and confirms, but delivers nothing."""
    monkeypatch.setattr("sluice_stream.bridge.bridge.LOOK", 0.05)

    def confirm(connection: socket.socket) -> None:
        connection.sendall(b"CONNECTED\nversion:1.1\nserver:deaf\nheart-beat:0,0\n\n\0")
        threading.Thread(target=confirm_all, args=(connection,)).start()

    def confirm_all(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := connection.recv(65536):
                for line in data.split(b"\n"):
                    if line.startswith(b"receipt:"):
                        connection.sendall(b"RECEIPT\nreceipt-id:" + line[8:] + b"\n\n\0")

    class Deaf:
        address = ("", 0)

    with pretender(confirm) as Deaf.address:
        stream = run(Deaf(), topic)
        eventually(lambda: "did not come back" in stream.bridge())
        stream.close()


def test_what_the_broker_hangs_up_on_is_parked_and_what_comes_after_it_arrives(
    run: Run, nats: Nats, broker: Broker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ActiveMQ has no other word for a topic without a name."""
    monkeypatch.setattr("sluice_stream.bridge.bridge.TRIES", 2)
    stream = run(broker, topic)
    stream.listening()

    async def put(bus: object) -> None:
        from sluice_core.bus import Bus
        from sluice_core.subjects import outbound
        from sluice_stream.bridge.bridge import HEADERS

        assert isinstance(bus, Bus)
        await bus.publish_stored(outbound("/topic/"), b"{}", msg_id="bad", headers={"Sluice-Id": "x"})
        await bus.publish_stored(outbound(topic), b"{}", msg_id="worse", headers={HEADERS: "["})

    nats.run(put, "stream")
    assert stream.send({"msg_type": "after"}).status_code == 202
    assert stream.recorded(1, 30)[0]["message_type"] == "after"
    eventually(lambda: len(stream.letters()) == 2)
    worse, bad = sorted(letter["reason"] for letter in stream.letters())
    assert bad == "the broker ends the connection whenever this is sent"
    assert worse.startswith("no message for a broker: ")
