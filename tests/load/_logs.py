"""A log table with a million records."""

from tests.load._platform import Platform

__all__ = ["RECORDS", "fill"]

RECORDS = 1_000_000

# What the loggers of agents send (swf-clients.md, section 6).
FILL = """
    INSERT INTO log_record (app_name, instance_name, timestamp, level, levelname, message, module, funcname, lineno,
                            process, thread, extra_data)
    SELECT 'agent-' || n % 50, 'agent-' || n % 50 || '-' || n % 7, now() - interval '30 days' + n * interval '1 s',
           20, 'INFO', 'Processed STF file swf.20260801.' || n || '.stf and sent it on to the next agent',
           'processing_agent', 'on_message', n % 500, 4242, 140000000000000 + n % 16, NULL
    FROM generate_series(1, {records}) AS n
"""


def fill(platform: Platform, database: str, records: int = RECORDS) -> None:
    """Fill the log table of a database."""
    platform.sql(database, FILL.format(records=records))
    platform.sql(database, "VACUUM (ANALYZE) log_record")
