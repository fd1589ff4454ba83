"""A database and its role, made with the rights of an administrator (``sluice up --postgres URL``, tests)."""

from psycopg2.extensions import encrypt_password
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from .engine import DatabaseAway

__all__ = ["AdminRefused", "create_database"]

INSUFFICIENT_PRIVILEGE = "42501"
LOCK = 0x51C1CE


class AdminRefused(Exception):
    """The role of the admin URL may not create roles and databases; the message is a sentence for a person."""


def create_database(admin_url: str, name: str, role: str, password: str) -> str:
    """Make a database that only its own role (and administrators) can connect to.

    Can be repeated and run at the same time: what exists stays, and the role gets the password anew.

    Parameters
    ----------
    admin_url
        URL of a role that may create roles and databases; it need not be a superuser.
    name
        The database; UTF-8 whatever the server's default is.
    role
        Owner of the database.
    password
        Of `role`. It is sent as a SCRAM verifier, so that the server's log can never show it.

    Returns
    -------
    str
        SQLAlchemy URL of the database for its role.

    Raises
    ------
    AdminRefused
        A right is missing.
    DatabaseAway
        The server cannot be reached, or does not let the administrator in.
    """
    url = make_url(admin_url).set(drivername="postgresql+psycopg2")
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 10})
    try:
        connection = engine.connect()
    except DBAPIError as exc:
        reason = str(exc.orig).strip().splitlines()[0]
        raise DatabaseAway(f"no login at {url.render_as_string(hide_password=True)}: {reason}") from exc
    with connection:
        try:
            _create(connection, name, role, password)
        except DBAPIError as exc:
            if getattr(exc.orig, "pgcode", None) == INSUFFICIENT_PRIVILEGE:
                raise AdminRefused(f"PostgreSQL role {url.username} may not create role and database {name}") from exc
            raise
    return url.set(username=role, password=password, database=name).render_as_string(hide_password=False)


def _create(connection: Connection, name: str, role: str, password: str) -> None:
    quote = connection.dialect.identifier_preparer.quote_identifier
    database, owner = quote(name), quote(role)
    # Held until the connection closes: there is no CREATE ROLE or DATABASE that does nothing when it comes second.
    connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
    if not _exists(connection, "SELECT FROM pg_roles WHERE rolname = :name", role):
        connection.exec_driver_sql(f"CREATE ROLE {owner} LOGIN")
    verifier = _scram_verifier(connection, role, password)
    connection.exec_driver_sql(f"ALTER ROLE {owner} LOGIN PASSWORD %s", (verifier,))
    if not _exists(
        connection, "SELECT FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolname = :name)", role
    ):
        connection.exec_driver_sql(f"GRANT {owner} TO CURRENT_USER")  # else it could not be made owner of a database
    if not _exists(connection, "SELECT FROM pg_database WHERE datname = :name", name):
        connection.exec_driver_sql(f"CREATE DATABASE {database} OWNER {owner} ENCODING 'UTF8' TEMPLATE template0")
    connection.exec_driver_sql(f"REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC")


def _exists(connection: Connection, query: str, name: str) -> bool:
    return connection.execute(text(query), {"name": name}).first() is not None


def _scram_verifier(connection: Connection, role: str, password: str) -> str:
    return encrypt_password(password, role, connection.connection.driver_connection, "scram-sha-256")
