"""Login by the facility: authorization code flow with PKCE (RFC 7636), state and nonce (OpenID Connect Core 3.1)."""

import hmac
import secrets
from base64 import urlsafe_b64encode
from datetime import timedelta
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec
import structlog

from sluice_core.auth import Keyring, PasswordsAway, Refused
from sluice_core.auth.facility import Facility, Person
from sluice_core.auth.provider import Metadata, ProviderAway, read_header
from sluice_core.auth.tokens import ATTEMPT_AUDIENCE, Verifier
from sluice_registry.errors import LoginFailed
from sluice_registry.service.identity import TokenIssuer
from sluice_registry.service.logins import Logins, NameTaken, Opened

__all__ = ["LIFETIME", "Client", "FacilityLogins"]

LIFETIME = timedelta(minutes=10)
AT_ONCE = 64
NOT_BEGUN = "It was not begun in this browser, or too long ago. Begin anew."
REFUSED = "The facility has refused it."
UNTRUSTED = "The facility's answer is not good. Begin anew."
TAKEN = "Your user name belongs to somebody else here. Ask the administrator."

log = structlog.get_logger(__name__)


class Client(NamedTuple):
    """What the provider knows us by.

    Attributes
    ----------
    secret
        None for a public client.
    scopes
        Separated by spaces.
    """

    client_id: str
    secret: str | None
    scopes: str


class _Attempt(msgspec.Struct):
    state: str
    nonce: str
    verifier: str
    next: str


class _Answer(msgspec.Struct):
    id_token: str
    access_token: str = ""


class FacilityLogins:
    """Sends browsers to the provider, and makes a session of what they come back with.

    What must be remembered meanwhile goes along in a cookie, so any replica can end what another one has begun.

    Parameters
    ----------
    keyring
        Has the keys of `issuer`.
    """

    def __init__(
        self, facility: Facility, logins: Logins, issuer: TokenIssuer, keyring: Keyring, client: Client
    ) -> None:
        self._facility = facility
        self._provider = facility.provider
        self._logins = logins
        self._issuer = issuer
        self._attempts = Verifier(keyring, audience=ATTEMPT_AUDIENCE)
        self._client = client
        self._at_once = 0

    async def begin(self, redirect_uri: str, next_path: str) -> tuple[str, str]:
        """Return where to send the browser, and the cookie that it brings back.

        Raises
        ------
        ProviderAway
            It was never reached.
        """
        metadata = await self._provider.metadata()
        if not metadata.authorization_endpoint or not metadata.token_endpoint:
            raise ProviderAway("it knows no authorization code flow")
        attempt = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
        challenge = urlsafe_b64encode(sha256(attempt["verifier"].encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": redirect_uri,
            "scope": self._client.scopes,
            "state": attempt["state"],
            "nonce": attempt["nonce"],
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        separator = "&" if "?" in metadata.authorization_endpoint else "?"
        cookie = self._issuer.keys.signer.sign_attempt({**attempt, "next": next_path}, expires_in=LIFETIME)
        return f"{metadata.authorization_endpoint}{separator}{urlencode(query)}", cookie

    async def finish(self, cookie: str, state: str, code: str, *, redirect_uri: str) -> tuple[Opened, str]:
        """Open a session for whom the provider has sent back; return it, and where he wanted to go.

        Parameters
        ----------
        code
            Empty: the provider, or the user there, has refused.

        Raises
        ------
        LoginFailed
            It was not begun here, or the provider does not stand for him, or his name is somebody else's.
        ProviderAway, PasswordsAway, DatabaseAway
            Nobody knows.
        """
        attempt = self._begun(cookie)
        if attempt is None or not hmac.compare_digest(attempt.state.encode(), state.encode()):
            raise LoginFailed(NOT_BEGUN)
        if not code:
            raise LoginFailed(REFUSED)
        try:
            person = await self._person(code, attempt, redirect_uri)
        except LoginFailed as exc:
            await self._logins.refused("", why=exc.detail)
            raise
        try:
            return await self._logins.log_in_by_facility(person), attempt.next
        except NameTaken:
            log.warning("a user of the facility has the name of another user", username=person.username)
            failed = LoginFailed(TAKEN)
        except Refused as exc:
            failed = LoginFailed(exc.detail)
        await self._logins.refused(person.username, why=failed.detail)
        raise failed

    async def _person(self, code: str, attempt: _Attempt, redirect_uri: str) -> Person:
        """Return for whom the provider stands."""
        if self._at_once >= AT_ONCE:
            raise PasswordsAway
        self._at_once += 1
        try:
            claims = await self._claims(code, attempt, redirect_uri)
        finally:
            self._at_once -= 1
        try:
            return self._facility.person(claims)
        except Refused:
            log.warning("the facility names nobody who could be a user", claims=sorted(claims))
            raise LoginFailed(UNTRUSTED) from None

    def _begun(self, cookie: str) -> _Attempt | None:
        try:
            return msgspec.convert(self._attempts.claims(cookie)[2].get("attempt"), _Attempt)
        except (Refused, msgspec.ValidationError):
            return None

    async def _claims(self, code: str, attempt: _Attempt, redirect_uri: str) -> dict[str, Any]:
        """Return what the provider says of who has logged in."""
        metadata = await self._provider.metadata()
        answer = await self._exchange(metadata, code, attempt.verifier, redirect_uri)
        if (header := read_header(answer.id_token)) is not None:
            await self._provider.learn(header.kid)
        try:
            claims = self._provider.read(answer.id_token, self._client.client_id)
        except Refused:
            raise LoginFailed(UNTRUSTED) from None
        nonce, meant, party = claims.get("nonce"), claims["aud"], claims.get("azp")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), attempt.nonce.encode()):
            raise LoginFailed(UNTRUSTED)
        # Core 3.1.3.7: a token for several is good for the one that has asked for it.
        if party != self._client.client_id and (party is not None or (isinstance(meant, list) and len(meant) > 1)):
            raise LoginFailed(UNTRUSTED)
        if self._facility.claims_missing(claims) and metadata.userinfo_endpoint and answer.access_token:
            return await self._userinfo(metadata.userinfo_endpoint, answer.access_token, claims) | claims
        return claims

    async def _exchange(self, metadata: Metadata, code: str, verifier: str, redirect_uri: str) -> _Answer:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        known, secret = self._client.client_id, self._client.secret
        auth = None
        if secret is None:
            form["client_id"] = known
        elif "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            auth = (quote(known, safe=""), quote(secret, safe=""))
        else:
            form |= {"client_id": known, "client_secret": secret}
        accept = {"Accept": "application/json"}
        status, body = await self._provider.ask("POST", metadata.token_endpoint, form=form, auth=auth, headers=accept)
        if status >= 500:
            raise ProviderAway(f"{metadata.token_endpoint} answers {status}")
        try:
            if status == 200:
                return msgspec.json.decode(body, type=_Answer)
        except (ValueError, RecursionError):
            pass
        log.warning("the facility gives no token for a code", status=status)
        raise LoginFailed(UNTRUSTED)

    async def _userinfo(self, url: str, access_token: str, claims: dict[str, Any]) -> dict[str, Any]:
        """Return the claims that providers do not put into the ID token (Core 5.3)."""
        status, body = await self._provider.ask("GET", url, headers={"Authorization": f"Bearer {access_token}"})
        if status != 200:
            # Without groups he would lose his roles.
            raise ProviderAway(f"{url} answers {status}")
        try:
            told = msgspec.json.decode(body, type=dict[str, Any])
        except (ValueError, RecursionError) as exc:
            raise ProviderAway(f"{url}: {exc}") from None
        if told.get("sub") != claims["sub"]:
            raise LoginFailed(UNTRUSTED)
        return told
