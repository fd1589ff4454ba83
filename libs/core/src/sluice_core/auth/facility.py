"""The site's own accounts: who somebody is by his provider's word, and what his groups may."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sluice_core.auth.identity import INVALID, Identity, Refused, TokensAway
from sluice_core.auth.provider import Provider, read_header
from sluice_core.auth.scopes import resolve
from sluice_core.auth.tokens import Verified

if TYPE_CHECKING:
    from sluice_core.settings import Shared

__all__ = ["Facility", "Person"]

MAX_SUBJECT = 255
MAX_ID = 255
# User names as elsewhere, and the separator of those providers that have none but their ``sub``.
USERNAME = re.compile(r"[A-Za-z0-9_.@+|-]{1,150}")
EMAIL = re.compile(r"[^@\s\x00]{1,125}@[^@\s\x00]{1,125}")


@dataclass(frozen=True)
class Person:
    """Somebody of the facility.

    Attributes
    ----------
    username
        What he is called here.
    subject
        What his provider calls him, for ever; names may pass on to somebody else.
    roles
        Those of his groups, sorted.
    email
        Empty where it is not told.
    """

    username: str
    subject: str
    roles: tuple[str, ...]
    email: str


class Facility:
    """Reads tokens of the facility's provider.

    Parameters
    ----------
    audience
        What a token must be meant for; none is accepted where it is empty.
    groups
        Pairs of a group and a role of its members.
    username_claim, groups_claim
        Where a token says these.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        audience: str,
        groups: Iterable[tuple[str, str]] = (),
        username_claim: str = "preferred_username",
        groups_claim: str = "groups",
    ) -> None:
        self.provider = provider
        self._audience = audience
        self._groups = tuple(groups)
        self._username = username_claim
        self._group = groups_claim

    @classmethod
    def configured(cls, shared: "Shared") -> "Facility | None":
        """Return the one of these settings; None where they name no issuer."""
        if not shared.oidc_issuer:
            return None
        return cls(
            Provider(shared.oidc_issuer),
            audience=shared.oidc_audience,
            groups=shared.oidc_groups,
            username_claim=shared.oidc_username_claim,
            groups_claim=shared.oidc_groups_claim,
        )

    def claims_missing(self, claims: Mapping[str, Any]) -> bool:
        """Whether these claims leave open who it is, or in which groups."""
        return self._username not in claims or self._group not in claims

    def person(self, claims: Mapping[str, Any]) -> Person:
        """Return whom verified claims mean.

        Raises
        ------
        Refused
            They name nobody who could be a user here.
        """
        username, subject, email = claims.get(self._username), claims.get("sub"), claims.get("email")
        if not isinstance(username, str) or not USERNAME.fullmatch(username):
            raise Refused(INVALID)
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT or "\0" in subject:
            raise Refused(INVALID)
        told = claims.get(self._group, ())
        member = {told} if isinstance(told, str) else {each for each in _list(told) if isinstance(each, str)}
        roles = tuple(sorted({role for group, role in self._groups if group in member}))
        return Person(username, subject, roles, email if isinstance(email, str) and EMAIL.fullmatch(email) else "")

    def issued(self, token: str) -> bool:
        """Whether a token claims to be one of the facility's: those of the registry have another algorithm."""
        return bool(self._audience) and read_header(token) is not None

    async def learn(self, token: str) -> None:
        """Learn the key that a token names, if it is not known; see `Provider.learn`."""
        if self._audience and (header := read_header(token)) is not None:
            await self.provider.learn(header.kid)

    def verify(self, token: str) -> Verified:
        """Check signature and claims of a token with the keys that are known; revocation is the caller's.

        Raises
        ------
        Refused
            ``Invalid token.``, whatever is wrong.
        TokensAway
            The provider has not told its keys yet.
        """
        header = read_header(token)
        if header is None or not self._audience:
            raise Refused(INVALID)
        if not self.provider.known:
            raise TokensAway
        key = self.provider.key(header.kid)
        if key is None:
            raise Refused(INVALID)
        claims = self.provider.read(token, self._audience)
        person, token_id = self.person(claims), claims.get("jti", "")
        if not isinstance(token_id, str) or len(token_id) > MAX_ID:
            raise Refused(INVALID)
        identity = Identity(person.username, resolve(person.roles, ()), token_id or None, by="facility")
        return Verified(identity, token_id, int(claims["exp"]), header.kid, key)


def _list(told: object) -> list[Any]:
    return told if isinstance(told, list) else []
