"""Identity: tokens in every spelling, verified without a call (ARCHITECTURE, Identity; swf-monitor.md 5.2)."""

from sluice_core.auth.authenticator import Authenticator
from sluice_core.auth.identity import Identity, Refused
from sluice_core.auth.keyring import BUCKETS, KEYS, REVOKED, TOKENS, Keyring, TokenRecord, digest
from sluice_core.auth.keys import (
    KeyUnusable,
    dump_private_key,
    generate_key,
    load_private_key,
    public_jwk,
    thumbprint,
)
from sluice_core.auth.scopes import ROLES, Scope
from sluice_core.auth.tokens import Signer

__all__ = [
    "BUCKETS",
    "KEYS",
    "REVOKED",
    "ROLES",
    "TOKENS",
    "Authenticator",
    "Identity",
    "KeyUnusable",
    "Keyring",
    "Refused",
    "Scope",
    "Signer",
    "TokenRecord",
    "digest",
    "dump_private_key",
    "generate_key",
    "load_private_key",
    "public_jwk",
    "thumbprint",
]
