"""Who may change what: the creator, or an administrator of physics configurations (contract 3.3, decision 20)."""

from sqlalchemy import Connection

from sluice_core.auth import Identity, Scope
from sluice_core.rest import ApiError, Attempt, denied

__all__ = ["claim", "insist_on_own", "owned", "owns"]


def owns(caller: Identity | None, created_by: str) -> bool:
    """Whether the caller may change what somebody has created."""
    return caller is not None and (caller.subject == created_by or caller.may(Scope.PCS_ADMIN))


def insist_on_own(caller: Identity | None, created_by: str, verb: str, label: str) -> None:
    """Refuse whoever is neither the creator nor an administrator.

    Raises
    ------
    ApiError
        403, in the words of the contract (6, 10).
    """
    if not owns(caller, created_by):
        raise ApiError(403, {"detail": f"Only the creator ({created_by}) can {verb} {label}."})


def owned(_: Connection, attempt: Attempt) -> None:
    """Refuse to let others than its creator change or delete a row.

    Raises
    ------
    ApiError
        403.
    """
    if attempt.before is not None and not owns(attempt.by, attempt.before["created_by"]):
        raise denied()


def claim(_: Connection, attempt: Attempt) -> None:
    """Let nobody give his work the name of another (decision 20)."""
    name = attempt.values.get("created_by")
    if name is None or attempt.by is None or attempt.by.may(Scope.PCS_ADMIN):
        return
    if attempt.before is not None and name == attempt.before["created_by"]:
        return
    if name != attempt.by.subject:
        attempt.errors["created_by"] = [f"This must be the name of the caller, {attempt.by.subject}."]
