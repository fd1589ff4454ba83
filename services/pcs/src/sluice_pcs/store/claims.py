"""Names that one transaction has for itself before there is a row to be locked."""

from sqlalchemy import Connection, text

__all__ = ["claim"]

_CLAIM = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


def claim(connection: Connection, kind: str, name: object) -> None:
    """Let nobody else claim a name of this kind until the transaction ends."""
    connection.execute(_CLAIM, {"name": f"{kind} {name}"})
