"""Who may come in at the STOMP door: a token as passcode, or a user with a password."""

from base64 import b64encode
from collections.abc import Callable
from typing import Any, NamedTuple

from sluice_core.auth import Authenticator, Identity, Refused, Throttled, Undecided
from sluice_stream.door.protocol import Violation

__all__ = ["Admitted", "Guard"]


class Admitted(NamedTuple):
    """A client that was let in.

    Attributes
    ----------
    still
        Whether its credential counts now; asked again and again, since connections last for weeks.
    """

    identity: Identity
    still: Callable[[], bool]


class Guard:
    """Looks at credentials.

    Parameters
    ----------
    auth
        Knows what they are worth.
    """

    def __init__(self, auth: Authenticator) -> None:
        self._auth = auth

    async def admit(self, login: str, passcode: str, peer: tuple[str, int]) -> Admitted:
        """Return who it is.

        Parameters
        ----------
        peer
            Where the connection comes from.

        Raises
        ------
        Violation
            Nobody whom we know, or nobody can say so now.
        """
        if not passcode:
            raise Violation("login needs a token as passcode, or a user and a password")
        try:
            return await self._by_token(passcode) or await self._by_password(login, passcode, peer)
        except Refused:
            raise Violation("login refused: passcode is no token, and not the password of that user") from None
        except (Throttled, Undecided) as exc:
            raise Violation(f"login: {exc}") from None

    async def _by_token(self, passcode: str) -> Admitted | None:
        headers = [(b"authorization", b"Token " + passcode.encode())]
        await self._auth.prepare(headers)
        try:
            identity = self._auth.authenticate(headers)
        except Refused:
            return None
        return None if identity is None else Admitted(identity, lambda: self._counts(headers))

    def _counts(self, headers: list[tuple[bytes, bytes]]) -> bool:
        try:
            return self._auth.authenticate(headers) is not None
        except Refused:
            return False
        except Undecided:
            # Nobody can say; what was good holds.
            return True

    async def _by_password(self, login: str, passcode: str, peer: tuple[str, int]) -> Admitted:
        basic = b64encode(f"{login}:{passcode}".encode())
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "headers": [(b"authorization", b"Basic " + basic)],
            "client": peer,
        }
        identity = await self._auth.identify(scope)
        if identity is None:
            raise Violation("login refused")
        return Admitted(identity, lambda: not self._auth.keyring.inactive(identity.subject))
