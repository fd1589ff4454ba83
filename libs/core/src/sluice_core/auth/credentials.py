"""Reads a credential from request headers, in every spelling that old clients use (ARCHITECTURE, Identity)."""

from collections.abc import Iterable
from typing import NamedTuple

from sluice_core.auth.identity import BAD_CHARACTERS, INVALID, NOTHING_GIVEN, SPACES, Refused

__all__ = ["MAX_LENGTH", "Basic", "Token", "read"]

MAX_LENGTH = 8192
"""Longest token in bytes that is looked at; a signed one has about 400."""

_SCHEMES = frozenset({b"token", b"bearer", b"apikey"})
_BARE = (b"x-auth-token", b"token")
_NAMES = frozenset({b"authorization", *_BARE})


class Token(NamedTuple):
    """A token as sent: 1 to `MAX_LENGTH` ASCII characters without white space."""

    value: str


class Basic(NamedTuple):
    """User name and password as sent: base64, not yet looked at, possibly empty."""

    encoded: bytes


def read(headers: Iterable[tuple[bytes, bytes]]) -> Token | Basic | None:
    """The credential among ASGI headers, or None.

    Where several spellings are present, ``Authorization`` wins over ``X-Auth-Token``, and that over the ``token``
    header of DQM senders: the more general the header's name, the likelier it was meant for somebody else. What wins
    also decides: a bad one is refused, whatever the others hold. An ``Authorization`` that is empty or of an unknown
    scheme is as if it were absent.

    Parameters
    ----------
    headers
        Pairs of lower-case name and value.

    Raises
    ------
    Refused
        Malformed, with the texts of swf-monitor.md 5.2; or longer than `MAX_LENGTH`; or one header sent twice with
        different values, where another reader on the way may have picked the other one.
    """
    sent: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _NAMES and sent.setdefault(name, value) != value:
            raise Refused(INVALID)
    if not sent:
        return None
    scheme, *rest = sent.get(b"authorization", b"").split(None, 2) or (b"",)
    scheme = scheme.lower()
    if scheme in _SCHEMES:
        return _token(rest)
    if scheme == b"basic":
        return Basic(b" ".join(rest))
    for name in _BARE:
        if name in sent:
            return _token(sent[name].split(None, 1))
    return None


def _token(words: list[bytes]) -> Token:
    if not words:
        raise Refused(NOTHING_GIVEN)
    if len(words) > 1:
        raise Refused(SPACES)
    if len(words[0]) > MAX_LENGTH:
        raise Refused(INVALID)
    try:
        return Token(words[0].decode("ascii"))
    except UnicodeDecodeError:
        raise Refused(BAD_CHARACTERS) from None
