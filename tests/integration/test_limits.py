"""Bodies over the limit of DECISIONS 3: 413, for a client that sends all of it first, and the connection after it."""

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.integration.platforms import Client, Up

LIMIT = 4 * 1024 * 1024
# Doors of the contract's form, of the hot kind, and of the new endpoints.
DOORS = [
    ("POST", "/api/systemagents/"),
    ("POST", "/api/systemagents/heartbeat/"),
    ("POST", "/api/namespaces/ensure/"),
    ("POST", "/api/logs/"),
    ("POST", "/api/subscribers/"),
    ("POST", "/api/auth/tokens/"),
]
# What a door takes at the most; an array of log records may be longer than one record.
LONGEST = {"/api/logs/": 4 * LIMIT}
every_door = pytest.mark.parametrize(("method", "path"), DOORS)


def in_chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 65536 + 1):
        yield b"x" * 65536


@every_door
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_a_body_over_the_limit_is_413_and_the_client_goes_on(
    method: str, path: str, declared: bool, client: Client
) -> None:
    for size in (LIMIT + 1, 3 * LIMIT, 16 * LIMIT):
        body = b"x" * size if declared else in_chunks(size)
        answer = client(method, path, data=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413, answer.text
        assert "detail" in answer.json()
    assert client.get("/api/systemagents/", params={"limit": 1}).status_code == 200


@every_door
def test_a_body_of_the_limit_is_read(method: str, path: str, client: Client) -> None:
    body = b'{"nobody_reads_this": "' + b"x" * (LIMIT - 25) + b'"}'
    answer = client(method, path, data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text


@every_door
def test_a_declared_size_is_refused_before_anything_of_it_came(method: str, path: str, platform: Up) -> None:
    parts = urlsplit(platform.http)
    head = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Token {platform.token}",
        "Content-Type: application/json",
        f"Content-Length: {LONGEST.get(path, LIMIT) + 1}",
    ]
    began = time.monotonic()
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=10) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert time.monotonic() - began < 5


def test_what_a_counter_is_sent_is_ignored_however_long(client: Client) -> None:
    for _ in range(3):
        answer = client("POST", "/api/state/next-agent-id/", data=b"x" * (2 * LIMIT))
        assert (answer.status_code, answer.json()["status"]) == (200, "success")
