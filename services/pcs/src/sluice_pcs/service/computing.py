"""Queues of PanDA and storage elements of Rucio, to which configurations and tasks refer by their names."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection

from sluice_core.rest import ApiError, Attempt
from sluice_pcs.service.overrides import data_complaints
from sluice_pcs.service.rights import claim
from sluice_pcs.store.computing import KNOWN_AS, ComputingStore

__all__ = ["check_config", "kept_while_used", "unknown_names"]


def unknown_names(connection: Connection, values: Mapping[str, Any]) -> dict[str, str]:
    """Say which values name no queue or storage element, by their fields."""
    store = ComputingStore(connection)
    return {
        field: f"Object with name={values[field]} does not exist."
        for field in KNOWN_AS
        if values.get(field) and not store.knows(field, values[field])
    }


def check_config(connection: Connection, attempt: Attempt) -> None:
    """Look at a production configuration that is about to be written."""
    claim(connection, attempt)
    if messages := data_complaints(attempt.values.get("data")):
        attempt.errors.setdefault("data", []).extend(messages)
    for field, message in unknown_names(connection, attempt.values).items():
        attempt.errors.setdefault(field, []).append(message)


def kept_while_used(field: str) -> Callable[[Connection, Attempt], None]:
    """Return the hook that keeps what a configuration or task refers to in this field.

    Raises
    ------
    ApiError
        409, when the hook is called.
    """

    def admit(connection: Connection, attempt: Attempt) -> None:
        if attempt.kind != "deleted" or attempt.before is None:
            return
        name = attempt.before["name"]
        if (user := ComputingStore(connection).user_of(field, name)) is not None:
            raise ApiError(409, {"detail": f"{name} is used by {user}."})

    return admit
