"""Identity: tokens in every spelling, verified without a call (ARCHITECTURE, Identity; swf-monitor.md 5.2)."""

from sluice_core.auth.authenticator import Authenticator, Passwords
from sluice_core.auth.identity import Identity, PasswordsAway, Refused, Throttled, TokensAway, Undecided
from sluice_core.auth.keyring import BUCKETS, KEYS, REVOKED, TOKENS, Keyring, TokenRecord, digest, user_key
from sluice_core.auth.keys import (
    KeyUnusable,
    dump_private_key,
    generate_key,
    load_private_key,
    public_jwk,
    thumbprint,
)
from sluice_core.auth.scopes import ROLES, Scope
from sluice_core.auth.sessions import CsrfFailed, Session
from sluice_core.auth.tokens import Signer

__all__ = [
    "BUCKETS",
    "KEYS",
    "REVOKED",
    "ROLES",
    "TOKENS",
    "Authenticator",
    "CsrfFailed",
    "Identity",
    "KeyUnusable",
    "Keyring",
    "Passwords",
    "PasswordsAway",
    "Refused",
    "Scope",
    "Session",
    "Signer",
    "Throttled",
    "TokenRecord",
    "TokensAway",
    "Undecided",
    "digest",
    "dump_private_key",
    "generate_key",
    "load_private_key",
    "public_jwk",
    "thumbprint",
    "user_key",
]
