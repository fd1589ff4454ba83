"""A log table with a million records."""

from datetime import timedelta

from sluice_logs.days import utc_now
from tests.load._platform import Platform

__all__ = ["RECORDS", "fill"]

RECORDS = 1_000_000
# Behind all ids that a service gives in a run.
FIRST = 10**12

# What the loggers of agents send (swf-clients.md, section 6).
FILL = """
    INSERT INTO log_record (id, received_on, app_name, instance_name, timestamp, level, levelname, message, module,
                            funcname, lineno, process, thread, extra_data)
    SELECT {first} + n, '{day}', 'agent-' || n % 50, 'agent-' || n % 50 || '-' || n % 7,
           now() - interval '30 days' + n * interval '1 s',
           20, 'INFO', 'Processed STF file swf.20260801.' || n || '.stf and sent it on to the next agent',
           'processing_agent', 'on_message', n % 500, 4242, 140000000000000 + n % 16, NULL
    FROM generate_series(1, {records}) AS n
"""


def fill(platform: Platform, database: str, records: int = RECORDS) -> None:
    """Fill the log table of a database."""
    day = utc_now().date()
    # As the service makes it: its role owns the partition, and may drop it.
    part = f"{day:log_record_%Y%m%d} PARTITION OF log_record FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    platform.sql(database, f"SET ROLE {database}; CREATE TABLE IF NOT EXISTS {part}")
    platform.sql(database, FILL.format(first=FIRST, day=day, records=records))
    platform.sql(database, "VACUUM (ANALYZE) log_record")
