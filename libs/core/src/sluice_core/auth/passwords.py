"""HTTP Basic: asked of the registry, remembered for a minute (ARCHITECTURE, Identity)."""

import asyncio
import hmac
import secrets
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from sluice_core.auth.credentials import MAX_LENGTH, Basic
from sluice_core.auth.identity import WRONG_PASSWORD, Identity, PasswordsAway, Refused, Throttled
from sluice_core.auth.keyring import REVOKED, Keyring
from sluice_core.auth.tries import Tries
from sluice_core.http.source import client_address

if TYPE_CHECKING:
    import httpx2

__all__ = ["Ask", "AskedPasswords", "RegistryPasswords"]

LIFETIME = 60.0
KEPT = 1024
WAITING = 64
TIMEOUT = 5.0
MAX_USERNAME = 150
WHOAMI = "/api/auth/whoami"

Ask = Callable[[str, str, str], Awaitable[Identity]]
"""User name, password, source -> identity; raises `Refused`, `Throttled` or `PasswordsAway`."""


class _Right(NamedTuple):
    identity: Identity
    until: float


class AskedPasswords:
    """Asks about a password once, however many requests bring it, and remembers that it was right.

    Parameters
    ----------
    ask
        Who knows.
    keyring
        Asked at every request, so a disabled user counts at once.
    trusted
        Proxies that tell where a request comes from.
    """

    def __init__(
        self,
        ask: Ask,
        keyring: Keyring,
        trusted: Sequence[IPv4Network | IPv6Network] = (),
        *,
        lifetime: float = LIFETIME,
    ) -> None:
        self._ask = ask
        self._keyring = keyring
        self._trusted = trusted
        self._lifetime = lifetime
        # What is remembered tells nobody a password, not even who reads this memory later.
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, _Right] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Identity]] = {}

    async def check(self, basic: Basic, scope: Mapping[str, Any]) -> Identity:
        """Return whose password this is; see `sluice_core.auth.Passwords`."""
        username, password = _decode(basic)
        key = hmac.digest(self._secret, f"{username}\0{password}".encode(), "sha256")
        known = self._right.get(key)
        if known is not None and known.until > time.monotonic() and self._stands(username):
            return known.identity
        asking = self._asking.get(key)
        if asking is None:
            if len(self._asking) >= WAITING:
                raise PasswordsAway
            asking = asyncio.create_task(self._ask_once(key, username, password, scope))
            self._asking[key] = asking
            asking.add_done_callback(lambda task: self._asked(key, task))
        # Whoever asked first may go away while others wait.
        return await asyncio.shield(asking)

    def _stands(self, username: str) -> bool:
        return not self._keyring.inactive(username) and not self._keyring.lacks(REVOKED)

    async def _ask_once(self, key: bytes, username: str, password: str, scope: Mapping[str, Any]) -> Identity:
        identity = await self._ask(username, password, client_address(scope, self._trusted))
        self._right[key] = _Right(identity, time.monotonic() + self._lifetime)
        self._right.move_to_end(key)
        if len(self._right) > KEPT:
            self._right.popitem(last=False)
        return identity

    def _asked(self, key: bytes, task: asyncio.Task[Identity]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # perhaps nobody waits for it any more


class _Caller(msgspec.Struct):
    subject: str
    scopes: tuple[str, ...]


class RegistryPasswords:
    """Asks the registry, as the user himself would.

    Parameters
    ----------
    url
        Base URL of the registry.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._tries = Tries()
        self._http: httpx2.AsyncClient | None = None

    async def ask(self, username: str, password: str, source: str) -> Identity:
        """Return whose password this is; an `Ask`.

        The source is passed on; the registry believes it where this service is among its trusted proxies.

        Raises
        ------
        Refused, Throttled, PasswordsAway
            As `sluice_core.auth.Passwords`.
        """
        import httpx2

        self._tries.begin(username, source)
        if self._http is None:
            self._http = httpx2.AsyncClient(base_url=self._url, timeout=TIMEOUT, trust_env=False)
        headers = {"X-Forwarded-For": source} if source else {}
        auth = httpx2.BasicAuth(username.encode(), password.encode())
        try:
            reply = await self._http.get(WHOAMI, headers=headers, auth=auth)
        except httpx2.HTTPError:
            self._tries.undecided(username, source)
            raise PasswordsAway from None
        if reply.status_code == 401:
            raise Refused(WRONG_PASSWORD)
        with suppress(msgspec.MsgspecError):
            if reply.status_code == 200:
                caller = msgspec.json.decode(reply.content, type=_Caller)
                self._tries.succeeded(username, source)
                return Identity(caller.subject, frozenset(caller.scopes), None, by="password")
        self._tries.undecided(username, source)
        if reply.status_code == 429:
            wait = reply.headers.get("retry-after", "")
            raise Throttled(int(wait) if wait.isdecimal() else 1)
        raise PasswordsAway

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()


def _decode(basic: Basic) -> tuple[str, str]:
    if len(basic.encoded) > MAX_LENGTH:
        raise Refused(WRONG_PASSWORD)
    try:
        username, colon, password = b64decode(basic.encoded, validate=True).decode().partition(":")
    except ValueError:
        raise Refused(WRONG_PASSWORD) from None
    if not colon or not 0 < len(username) <= MAX_USERNAME:
        raise Refused(WRONG_PASSWORD)
    return username, password
