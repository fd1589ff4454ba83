"""An OpenID provider: where it answers and what it signs with; what was learned holds while it is away."""

import asyncio
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, RSAKey
from joserfc.jws import JWSRegistry

from sluice_core.auth.identity import INVALID, Refused
from sluice_core.auth.tokens import LEEWAY

if TYPE_CHECKING:
    import httpx2

__all__ = ["Header", "Metadata", "Provider", "ProviderAway", "read_header"]

ALGORITHMS = ("RS256", "ES256")
TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
LIFETIME = 3600.0
PAUSE = 30.0
TIMEOUT = 5.0
WAIT = 2.0
MAX_BYTES = 262_144
MAX_KEYS = 64
# Characters of an RSA modulus of 2048 and of 8192 bits.
MODULUS = range(341, 1368)
DISCOVERY = "/.well-known/openid-configuration"

log = structlog.get_logger(__name__)

Key = RSAKey | ECKey
_T = TypeVar("_T")


class ProviderAway(Exception):
    """The provider does not answer, or says what no provider says."""


class Header(msgspec.Struct, frozen=True):
    """What a token says of itself before anything is verified."""

    alg: str
    kid: str = ""
    typ: str = ""


class Metadata(msgspec.Struct, frozen=True):
    """What discovery tells (OpenID Connect Discovery 1.0, section 3)."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    userinfo_endpoint: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)

    def addresses(self) -> tuple[str, ...]:
        """Every URL that we or a browser would ask."""
        told = (self.jwks_uri, self.authorization_endpoint, self.token_endpoint, self.userinfo_endpoint)
        return tuple(url for url in told if url)


class _Keys(msgspec.Struct):
    keys: list[dict[str, Any]]


class Provider:
    """Learns addresses and keys of one issuer, and reads the tokens that it has signed.

    It is asked once an hour, and when a token names an unknown key, though never twice in half a minute.

    Parameters
    ----------
    issuer
        To the character as its tokens have it.
    clock
        Seconds that never go back.
    """

    def __init__(self, issuer: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.issuer = issuer
        self._clock = clock
        self._metadata: Metadata | None = None
        self._keys: dict[str, Key] = {}
        self._due = self._not_before = clock()
        self._asking: asyncio.Task[None] | None = None
        self._client: httpx2.AsyncClient | None = None
        self._registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)

    def key(self, kid: str) -> Key | None:
        """Return the public key called `kid`."""
        return self._keys.get(kid)

    @property
    def known(self) -> bool:
        """Whether it has told its keys."""
        return self._metadata is not None

    async def metadata(self) -> Metadata:
        """Return where the provider answers; asks for it when it is not known yet.

        Raises
        ------
        ProviderAway
            It could not be learned.
        """
        if self._metadata is None and (asking := self._ask_soon()) is not None:
            await asyncio.wait([asking], timeout=TIMEOUT)
        if self._metadata is None:
            raise ProviderAway("it has not told yet where it answers")
        return self._metadata

    async def learn(self, kid: str) -> None:
        """Ask for a key that is not known; takes `WAIT` seconds at most, and may end without it."""
        if kid not in self._keys and (asking := self._ask_soon()) is not None:
            await asyncio.wait([asking], timeout=WAIT)

    async def run(self) -> None:
        """Keep what is known fresh, for ever; a long-lived task."""
        while True:
            await asyncio.sleep(max(0.0, self._due - self._clock()))
            if self._due <= self._clock() and (asking := self._ask_soon()) is not None:
                await asyncio.wait([asking])

    def read(self, token: str, audience: str) -> dict[str, Any]:
        """Return the claims of a token of this provider; no I/O.

        Raises
        ------
        Refused
            ``Invalid token.``, whatever is wrong, an unknown key among it.
        """
        header = read_header(token)
        key = None if header is None or header.typ.lower() not in TYPES else self._keys.get(header.kid)
        if key is None:
            raise Refused(INVALID)
        try:
            claims = jwt.decode(token, key, algorithms=ALGORITHMS, registry=self._registry).claims
            jwt.JWTClaimsRegistry(
                leeway=LEEWAY,
                iss={"essential": True, "value": self.issuer},
                aud={"essential": True, "value": audience},
                exp={"essential": True},
                sub={"essential": True},
            ).validate(claims)
        # Beyond its own errors the library lets pass those of what it decodes with.
        except (JoseError, ValueError, TypeError, RecursionError):
            raise Refused(INVALID) from None
        return claims

    async def ask(
        self,
        method: str,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send one request; return status and body.

        Raises
        ------
        ProviderAway
            No answer within `TIMEOUT` seconds, or too much of it.
        """
        import httpx2

        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=TIMEOUT)
        body = bytearray()
        try:
            async with asyncio.timeout(TIMEOUT):
                async with self._client.stream(method, url, data=form, auth=auth, headers=headers) as reply:
                    async for chunk in reply.aiter_bytes():
                        body += chunk
                        if len(body) > MAX_BYTES:
                            raise ProviderAway(f"{url} answers with more than {MAX_BYTES} bytes")
                    return reply.status_code, bytes(body)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as exc:
            raise ProviderAway(f"{url}: {exc!r}") from None

    async def close(self) -> None:
        """Ask nothing any more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        if self._client is not None:
            await self._client.aclose()

    def _ask_soon(self) -> asyncio.Task[None] | None:
        """Ask, unless somebody did a moment ago; return the question that is under way."""
        now = self._clock()
        if self._asking is None and now >= self._not_before:
            self._not_before = self._due = now + PAUSE
            self._asking = asyncio.create_task(self._ask(), name="facility keys")
            self._asking.add_done_callback(self._asked)
        return self._asking

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("the facility's keys could not be taken", issuer=self.issuer, exc_info=failure)

    async def _ask(self) -> None:
        try:
            metadata = self._usable(await self._get(self.issuer.rstrip("/") + DISCOVERY, Metadata))
            keys = _signing_keys(await self._get(metadata.jwks_uri, _Keys))
        except ProviderAway as exc:
            log.warning("the facility's provider is away; what is known of it holds", issuer=self.issuer, why=str(exc))
            return
        # A key that is what it was stays the same object: verified tokens are remembered with theirs.
        self._keys = {kid: old if (old := self._keys.get(kid)) == key else key for kid, key in keys.items()}
        self._metadata = metadata
        self._due = self._clock() + LIFETIME

    async def _get(self, url: str, kind: type[_T]) -> _T:
        status, body = await self.ask("GET", url, headers={"Accept": "application/json"})
        if status != 200:
            raise ProviderAway(f"{url} answers {status}")
        try:
            return msgspec.json.decode(body, type=kind)
        except (ValueError, RecursionError) as exc:
            raise ProviderAway(f"{url}: {exc}") from None

    def _usable(self, metadata: Metadata) -> Metadata:
        if metadata.issuer != self.issuer:
            raise ProviderAway(f"it calls itself {metadata.issuer!r}")
        schemes = ("https://",) if self.issuer.startswith("https://") else ("https://", "http://")
        if bad := [url for url in metadata.addresses() if not url.startswith(schemes)]:
            raise ProviderAway(f"{bad[0]!r} is no address")
        return metadata


def read_header(token: str) -> Header | None:
    """Return the header of a token in one of `ALGORITHMS`; None for anything else."""
    encoded = token.partition(".")[0]
    try:
        header = msgspec.json.decode(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)), type=Header)
    except (ValueError, RecursionError):
        return None
    return header if header.alg in ALGORITHMS else None


def _signing_keys(told: _Keys) -> dict[str, Key]:
    """Return the keys that may sign in one of `ALGORITHMS`, by ``kid``; the others are somebody else's."""
    keys: dict[str, Key] = {}
    for jwk in told.keys[:MAX_KEYS]:
        kid, kind, modulus = jwk.get("kid"), jwk.get("kty"), jwk.get("n")
        fits = isinstance(modulus, str) and len(modulus) in MODULUS if kind == "RSA" else jwk.get("crv") == "P-256"
        if not isinstance(kid, str) or not kid or not fits or jwk.get("use", "sig") != "sig":
            continue
        public = {name: value for name, value in jwk.items() if name in ("kty", "n", "e", "crv", "x", "y", "alg")}
        try:
            key = JWKRegistry.import_key(public)
            key.check_alg(ALGORITHMS[0] if kind == "RSA" else ALGORITHMS[1])
        except (JoseError, ValueError, TypeError) as exc:
            log.warning("a key of the facility is ignored", kid=kid, reason=str(exc))
            continue
        if isinstance(key, RSAKey | ECKey):
            keys[kid] = key
    if not keys:
        raise ProviderAway("it has no key of a kind that is accepted")
    return keys
