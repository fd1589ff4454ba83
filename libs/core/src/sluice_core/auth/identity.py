"""Who calls, and why somebody was turned away."""

from dataclasses import dataclass

from sluice_core.auth.scopes import Scope

__all__ = ["BAD_CHARACTERS", "INACTIVE", "INVALID", "NOTHING_GIVEN", "SPACES", "WRONG_PASSWORD", "Identity", "Refused"]

# The original framework's texts, which clients match on (swf-monitor.md 5.2).
INVALID = "Invalid token."
NOTHING_GIVEN = "Invalid token header. No credentials provided."
SPACES = "Invalid token header. Token string should not contain spaces."
BAD_CHARACTERS = "Invalid token header. Token string should not contain invalid characters."
INACTIVE = "User inactive or deleted."
WRONG_PASSWORD = "Invalid username/password."  # noqa: S105 - a sentence, not a password


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller whose token was verified.

    Attributes
    ----------
    subject
        The user name.
    scopes
        Every right of the token, with its roles resolved.
    token_id
        The ``jti`` by which the token is listed and revoked.
    """

    subject: str
    scopes: frozenset[str]
    token_id: str | None

    def may(self, scope: str) -> bool:
        """Whether the caller holds `scope`; ``admin`` holds every one."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


class Refused(Exception):
    """A credential was sent and is not good; `detail` is the contract's text (swf-monitor.md 5.2).

    It says the same for every forgery, so that an answer teaches nothing.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
