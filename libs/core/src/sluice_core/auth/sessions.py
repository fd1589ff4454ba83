"""What browsers send by themselves: the cookie of a session, and what proves that its page asked (contract 5.3)."""

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sluice_core.auth.identity import Identity, Refused
from sluice_core.auth.keyring import digest

__all__ = [
    "CSRF_COOKIE",
    "CSRF_HEADER",
    "SAFE",
    "SESSION_COOKIE",
    "CsrfFailed",
    "Session",
    "cookie",
    "insist_on_csrf",
]

SESSION_COOKIE = "sessionid"
CSRF_COOKIE = "csrftoken"
CSRF_HEADER = "X-CSRFToken"
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing, and so need no proof."""

# The texts of the original framework, which spells the header in its own way.
NO_COOKIE = "CSRF Failed: CSRF cookie not set."
NO_HEADER = "CSRF Failed: CSRF token missing."
WRONG = "CSRF Failed: CSRF token from the 'X-Csrftoken' HTTP header incorrect."

Headers = Iterable[tuple[bytes, bytes]]


class CsrfFailed(Refused):
    """A session is good, and nothing shows that the request came from one of its pages; always 403."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session that counts now.

    Attributes
    ----------
    expires
        Unix time in seconds.
    csrf
        Digest of the CSRF token that was handed out with it.
    """

    identity: Identity
    expires: int
    csrf: str


def cookie(headers: Headers, name: str) -> str | None:
    """Return a cookie; None when it is absent, or there twice with different values.

    Another site of the same domain can add a cookie of that name, and nobody knows which one a reader on the way took.
    """
    wanted, found = name.encode(), None
    for header, value in headers:
        if header != b"cookie":
            continue
        for pair in value.split(b";"):
            key, equals, content = pair.partition(b"=")
            if equals and key.strip() == wanted:
                content = content.strip()
                if found is not None and content != found:
                    return None
                found = content
    return None if found is None else found.decode("latin-1")


def insist_on_csrf(headers: Sequence[tuple[bytes, bytes]], session: Session) -> None:
    """Check what a page proves itself with: the header ``X-CSRFToken`` repeats the cookie ``csrftoken``.

    The cookie must also be the one that was handed out with the session: another site of the same domain can plant a
    pair of its own.

    Raises
    ------
    CsrfFailed
        With the texts of contract 5.3.
    """
    known = cookie(headers, CSRF_COOKIE)
    if not known:
        raise CsrfFailed(NO_COOKIE)
    wanted = CSRF_HEADER.lower().encode()
    sent = {value for name, value in headers if name == wanted}
    if not sent or sent == {b""}:
        raise CsrfFailed(NO_HEADER)
    proof = known.encode("latin-1")
    same = len(sent) == 1 and hmac.compare_digest(sent.pop(), proof)
    if not same or not hmac.compare_digest(digest(known), session.csrf):
        raise CsrfFailed(WRONG)
