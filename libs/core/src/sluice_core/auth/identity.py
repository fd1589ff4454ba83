"""Who calls, and why somebody was turned away."""

import math
from dataclasses import dataclass
from typing import Literal

from sluice_core.auth.scopes import Scope

__all__ = [
    "BAD_CHARACTERS",
    "INACTIVE",
    "INVALID",
    "NOTHING_GIVEN",
    "SPACES",
    "WRONG_PASSWORD",
    "Identity",
    "PasswordsAway",
    "Refused",
    "Throttled",
    "TokensAway",
    "Undecided",
]

# The original framework's texts, which clients match on (swf-monitor.md 5.2).
INVALID = "Invalid token."
NOTHING_GIVEN = "Invalid token header. No credentials provided."
SPACES = "Invalid token header. Token string should not contain spaces."
BAD_CHARACTERS = "Invalid token header. Token string should not contain invalid characters."
INACTIVE = "User inactive or deleted."
WRONG_PASSWORD = "Invalid username/password."  # noqa: S105 - a sentence, not a password


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose credential was verified.

    Attributes
    ----------
    subject
        The user name.
    scopes
        Every right of the token, with its roles resolved.
    token_id
        The ``jti`` by which the token, or the session, is listed and revoked; None for a password.
    namespaces
        The only ones whose rows the caller may write; None: all.
    by
        What kind of credential it was.
    """

    subject: str
    scopes: frozenset[str]
    token_id: str | None
    namespaces: frozenset[str] | None = None
    by: Literal["token", "session", "password", "facility"] = "token"

    def may(self, scope: str) -> bool:
        """Whether the caller holds `scope`; ``admin`` holds every one."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def within(self, namespace: str | None) -> bool:
        """Whether the caller may write rows of this namespace, or of none."""
        return self.namespaces is None or namespace in self.namespaces


class Refused(Exception):
    """A credential was sent and is not good; `detail` is the contract's text (swf-monitor.md 5.2).

    It says the same for every forgery, so that an answer teaches nothing.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Throttled(Exception):
    """Too many wrong passwords came from there, or for that user; answered 429.

    Attributes
    ----------
    wait
        Seconds after which another one is looked at.
    """

    def __init__(self, wait: float) -> None:
        self.wait = max(1, math.ceil(wait))
        super().__init__(f"Request was throttled. Expected available in {self.wait} seconds.")


class Undecided(Exception):
    """A credential was sent, and nobody can say now whether it is good; answered 503."""


class TokensAway(Undecided):
    """What a token or session is judged by was not read yet."""

    def __init__(self) -> None:
        super().__init__("Tokens cannot be checked at the moment. Try again.")


class PasswordsAway(Undecided):
    """Whoever knows the passwords does not answer, or has too much to do."""

    def __init__(self) -> None:
        super().__init__("Passwords cannot be checked at the moment. Try again.")
