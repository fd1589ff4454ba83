"""STOMP 1.1 and 1.2 on the wire: bytes to frames, frames to bytes; without I/O.

A codec of our own: that of stompman, the one library which parses what clients send, leaves out what it does not
understand without a word, has no bounds, and looks at each byte of a body in Python.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["BEAT", "BadFrame", "Frame", "Limits", "Parser", "encode", "encode_headers"]

BEAT = b"\n"
"""What a side sends that has nothing to say."""

# The first line of a frame; no command is longer than UNSUBSCRIBE.
_LONGEST_COMMAND = 16
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)
_UNESCAPED = {"n": "\n", "c": ":", "\\": "\\", "r": "\r"}
_SPECIAL = re.compile(r"[\\\n\r:]")
_ESCAPES = {"\n": "\\n", ":": "\\c", "\\": "\\\\", "\r": "\\r"}
_LENGTH = re.compile(r"[0-9]{1,10}")


class BadFrame(Exception):
    """What was sent is no frame, or one beyond a limit; the text says why, without quoting values of headers."""


@dataclass(frozen=True)
class Limits:
    """How large a frame may be.

    Attributes
    ----------
    body
        Bytes of a body.
    head
        Bytes of the command and all headers.
    headers
        How many headers.
    """

    body: int = 2**20
    head: int = 16 * 2**10
    headers: int = 64


@dataclass(frozen=True)
class Frame:
    """One frame; of a header that is repeated, the first counts."""

    command: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def size(self) -> int:
        """About how many bytes of memory it holds."""
        return len(self.body) + sum(len(name) + len(value) + 128 for name, value in self.headers.items()) + 256


class Parser:
    """Turns what comes from a client into frames; after a `BadFrame` it is of no use any more.

    Parameters
    ----------
    limits
        What a frame may have.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        # How far the buffer was searched in vain for the end of what is being read.
        self._searched = 0
        self._head: tuple[str, dict[str, str]] | None = None
        self._length: int | None = None

    @property
    def within(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._head is not None or self._searched > 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that ``data`` completes.

        Raises
        ------
        BadFrame
            It cannot be gone on.
        """
        self._buffer += data
        while True:
            if self._head is None and not self._read_head():
                return
            body = self._read_body()
            if body is None:
                return
            assert self._head is not None
            frame = Frame(*self._head, body)
            self._head = self._length = None
            if body and frame.command != "SEND":
                raise BadFrame(f"{frame.command} has a body")
            yield frame

    def _read_head(self) -> bool:
        if self._searched == 0:
            skipped = len(self._buffer) - len(self._buffer.lstrip(b"\r\n"))
            # A carriage return alone is no end of line; the one before a line feed may come before it.
            for line in bytes(self._buffer[:skipped]).split(b"\n"):
                if line not in (b"", b"\r"):
                    raise BadFrame("carriage returns between frames")
            del self._buffer[: skipped - self._buffer[:skipped].endswith(b"\r")]
            if bytes(self._buffer[:2]) in (b"", b"\r"):
                return False
        found = _END_OF_HEAD.search(self._buffer, max(0, self._searched - 2))
        if found is None:
            if len(self._buffer) > self._limits.head:
                raise BadFrame(f"command and headers have more than {self._limits.head} bytes")
            first = self._buffer.find(b"\n")
            if (first if first >= 0 else len(self._buffer)) > _LONGEST_COMMAND or b"\0" in self._buffer:
                raise BadFrame("that is no STOMP frame")
            self._searched = len(self._buffer)
            return False
        if found.end() > self._limits.head:
            raise BadFrame(f"command and headers have more than {self._limits.head} bytes")
        head = bytes(self._buffer[: found.start()])
        del self._buffer[: found.end()]
        self._searched = 0
        self._head = self._parse_head(head)
        self._length = self._content_length(self._head[1])
        return True

    def _parse_head(self, head: bytes) -> tuple[str, dict[str, str]]:
        if b"\0" in head:
            raise BadFrame("a NUL among command and headers")
        try:
            command, *lines = [line.removesuffix("\r") for line in head.decode().split("\n")]
        except UnicodeDecodeError:
            raise BadFrame("command or headers are not UTF-8") from None
        if len(command) > _LONGEST_COMMAND or not command.isascii() or not command.isalpha():
            raise BadFrame("that is no STOMP frame")
        if len(lines) > self._limits.headers:
            raise BadFrame(f"more than {self._limits.headers} headers")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name:
                raise BadFrame("a header is not name:value")
            if command != "CONNECT":
                # stomp.py 8 escapes in STOMP, 9 does not.
                strict = command != "STOMP"
                name, value = _unescape(name, strict=strict), _unescape(value, strict=strict)
            headers.setdefault(name, value)
        return command, headers

    def _content_length(self, headers: Mapping[str, str]) -> int | None:
        said = headers.get("content-length")
        if said is None:
            return None
        if not _LENGTH.fullmatch(said.strip()):
            raise BadFrame("content-length is no number of bytes")
        if int(said) > self._limits.body:
            raise BadFrame(f"a body of more than {self._limits.body} bytes")
        return int(said)

    def _read_body(self) -> bytes | None:
        end = self._length
        if end is None:
            end = self._buffer.find(b"\0", self._searched)
            if end < 0:
                end = None
                self._searched = len(self._buffer)
        elif len(self._buffer) <= end:
            end = None
        elif self._buffer[end]:
            raise BadFrame("no NUL where content-length says that the body ends")
        if (len(self._buffer) if end is None else end) > self._limits.body:
            raise BadFrame(f"a body of more than {self._limits.body} bytes")
        if end is None:
            return None
        body = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return body


def encode(command: str, headers: Mapping[str, str], body: bytes = b"", *, version: str = "1.2") -> bytes:
    """Return the bytes of a frame for a client that speaks this version."""
    return b"".join((command.encode(), b"\n", encode_headers(headers, version), b"\n", body, b"\0\n"))


def encode_headers(headers: Mapping[str, str], version: str) -> bytes:
    """Return the lines of headers for a client that speaks this version."""
    # 1.1 has no way to write a carriage return.
    escapes = _ESCAPES if version == "1.2" else _ESCAPES | {"\r": ""}
    lines = "".join(f"{_escape(name, escapes)}:{_escape(value, escapes)}\n" for name, value in headers.items())
    return lines.encode(errors="replace")


def _escape(text: str, escapes: Mapping[str, str]) -> str:
    return _SPECIAL.sub(lambda found: escapes[found[0]], text)


def _unescape(text: str, *, strict: bool) -> str:
    if "\\" not in text:
        return text

    def one(found: re.Match[str]) -> str:
        known = _UNESCAPED.get(found[1])
        if known is None and strict:
            raise BadFrame("a header has an escape sequence that does not exist")
        return found[0] if known is None else known

    return _ESCAPED.sub(one, text)
