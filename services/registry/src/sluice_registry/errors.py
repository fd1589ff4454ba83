"""Refusals of the registry's new endpoints."""

from sluice_core.errors import Problem

__all__ = [
    "BeyondOwnRights",
    "LoginFailed",
    "NamespaceUnknown",
    "NoFacility",
    "NoSuchToken",
    "NotForNamespaces",
    "TokenUnknown",
    "UserExists",
    "UserInactive",
    "UserUnknown",
    "WrongPassword",
]


class NamespaceUnknown(Problem):
    """There is no namespace of this name."""

    status, code, title = 404, "namespace_unknown", "No such namespace"


class BeyondOwnRights(Problem):
    """Somebody wants to grant what he does not hold."""

    status, code, title = 403, "beyond_own_rights", "Nobody can grant more than he may"


class NotForNamespaces(Problem):
    """A right that concerns everything was to be granted for some namespaces only."""

    status, code, title = 400, "not_for_namespaces", "This right knows no namespaces"


class NoSuchToken(Problem):
    """There is no token of this id."""

    status, code, title = 404, "no_such_token", "No such token"


class UserUnknown(Problem):
    """There is no user of this name."""

    status, code, title = 404, "user_unknown", "No such user"


class UserExists(Problem):
    """There is a user of this name already."""

    status, code, title = 409, "user_exists", "There is such a user"


class UserInactive(Problem):
    """Nobody gets a token for a user who is switched off."""

    status, code, title = 409, "user_inactive", "The user is switched off"


class WrongPassword(Problem):
    """User name and password do not belong together; the same is said whichever of them is wrong."""

    status, code, title = 401, "wrong_password", "Invalid username/password."


class TokenUnknown(Problem):
    """A list cannot go on after a token that does not exist."""

    status, code, title = 400, "token_unknown", "No such token"


class NoFacility(Problem):
    """No OpenID provider is configured."""

    status, code, title = 404, "no_facility", "There is no login by the facility"


class LoginFailed(Problem):
    """A login by the facility did not come to its end; it can be begun anew."""

    status, code, title = 400, "login_failed", "The login failed"
