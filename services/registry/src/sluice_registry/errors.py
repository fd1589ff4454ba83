"""Refusals of the registry's new endpoints."""

from sluice_core.errors import Problem

__all__ = ["BeyondOwnRights", "NamespaceUnknown", "TokenUnknown"]


class NamespaceUnknown(Problem):
    """There is no namespace of this name."""

    status, code, title = 404, "namespace_unknown", "No such namespace"


class BeyondOwnRights(Problem):
    """Somebody wants to grant what he does not hold."""

    status, code, title = 403, "beyond_own_rights", "Nobody can grant more than he may"


class TokenUnknown(Problem):
    """A list cannot go on after a token that does not exist."""

    status, code, title = 400, "token_unknown", "No such token"
