"""What every service's ``migrations/env.py`` runs."""

from alembic import context

__all__ = ["run"]


def run() -> None:
    """Migrate on the connection that `sluice_core.database.migrate` holds the lock with."""
    context.configure(connection=context.config.attributes["connection"], transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
