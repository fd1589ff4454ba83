"""The migrations and the tables say the same."""

from sluice_core.testing.schema import schema_differences
from sluice_runs.tables import metadata


def test_migrations_lead_to_the_declared_tables(service_database: str) -> None:
    assert schema_differences(service_database, metadata) == []
