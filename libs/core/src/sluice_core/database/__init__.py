"""PostgreSQL: one engine a service, transactions, migrations."""

from sluice_core.database.engine import Database, DatabaseAway, after_commit
from sluice_core.database.migrate import SchemaOutdated, migrate, require_current
from sluice_core.database.recordset import recordset

__all__ = ["Database", "DatabaseAway", "SchemaOutdated", "after_commit", "migrate", "recordset", "require_current"]
