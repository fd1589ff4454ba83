"""Reads whole lists, and counts what comes."""

import time
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["Read", "read"]

# How every row of most lists begins.
ROW = b'{"id":'
PIECE = 256 * 1024


class Read(NamedTuple):
    """A list as it came.

    Attributes
    ----------
    rows
        How many.
    size
        Bytes of the body.
    first, seconds
        From the request to the first byte of the body, and to its last one.
    """

    rows: int
    size: int
    first: float
    seconds: float


def read(url: str, path: str, headers: Mapping[str, str] | None = None, *, row: bytes = ROW) -> Read:
    """Read a list to its end, over a connection of its own, and keep nothing of it.

    Parameters
    ----------
    row
        How every row begins.

    Raises
    ------
    RuntimeError
        The answer is no whole list.
    """
    address = urlsplit(url)
    assert address.hostname is not None
    connection = HTTPConnection(address.hostname, address.port, timeout=60)
    connection.connect()
    try:
        began = time.perf_counter()
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"GET {path}: {response.status} {response.read(500)!r}")
        piece = response.read(1)
        first = time.perf_counter() - began
        rows, size, tail = 0, 0, b""
        while piece:
            size += len(piece)
            seen = tail + piece
            rows += seen.count(row)
            # Shorter than what is counted, so nothing is counted twice.
            tail = seen[1 - len(row) :]
            piece = response.read(PIECE)
        seconds = time.perf_counter() - began
    finally:
        connection.close()
    if not tail.endswith(b"]"):
        raise RuntimeError(f"GET {path}: the list ends with {tail!r}")
    return Read(rows, size, first, seconds)
