"""Schema versions of all services."""

from collections.abc import Iterable

from sqlalchemy.exc import OperationalError

from sluice.services import chosen
from sluice_core.cli import Failure
from sluice_core.database import SchemaOutdated, migrate

__all__ = ["migrate_all"]


def migrate_all(names: Iterable[str] | None) -> list[str]:
    """Bring the databases of these services, or of all that are installed, to this release.

    Returns
    -------
    list of str
        The services whose database is now current.

    Raises
    ------
    Failure
        A database cannot be reached or is too old; those before it are migrated.
    """
    done = []
    for service in chosen(names):
        url = service.settings().database_url.get_secret_value()
        try:
            migrate(url, service.package)
        except OperationalError as exc:
            reason = str(exc.orig).strip().splitlines()[0]
            raise Failure(f"the database of {service.name} cannot be reached: {reason}") from exc
        except SchemaOutdated as exc:
            raise Failure(str(exc)) from exc
        done.append(service.name)
    return done
