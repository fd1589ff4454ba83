"""Two million log records of three days, as a facility of a hundred programs leaves them."""

from datetime import timedelta

from sluice_logs.days import utc_now
from tests.load._platform import Platform

__all__ = ["APP", "COMMON", "DAYS", "INSTANCE", "RARE", "RECORDS", "fill"]

RECORDS = 2_000_000
DAYS = 3
# One of the instances, and words of messages: of every third record, and of a few of all.
APP, INSTANCE = "app-3", "app-3-ada-33"
COMMON, RARE = "processed", "interlock"
# Behind all ids that a service gives in a run.
FIRST = 10**12

FILL = """
    INSERT INTO log_record (id, received_on, app_name, instance_name, timestamp, level, levelname, message, module,
                            funcname, lineno, process, thread, extra_data)
    SELECT {first} + {begin} + n, '{day}', 'app-' || n % 10, 'app-' || n % 10 || '-ada-' || n % 100,
           now() - interval '{ago} days' - interval '86400 s' * (1 - n / {count}.0),
           CASE WHEN n % 101 = 0 THEN 40 WHEN n % 3 = 0 THEN 20 ELSE 10 END,
           CASE WHEN n % 101 = 0 THEN 'ERROR' WHEN n % 3 = 0 THEN 'INFO' ELSE 'DEBUG' END,
           CASE WHEN n % 50021 = 7 THEN 'Interlock of crate ' || n || ' has opened'
                WHEN n % 3 = 0 THEN 'Processed STF file swf.20260801.' || n || '.stf and sent it on to the next agent'
                ELSE 'Slice ' || n || ' of run ' || n / 1000 || ' waits for worker ' || n % 997 END,
           'processing_agent', 'on_message', n % 500, 4242, 140000000000000 + n % 16,
           jsonb_build_object('execution_id', 'fast-ada-' || n / 20000, 'run_id', 100000 + n / 1000, 'username', 'ada')
    FROM generate_series(1, {count}) AS n
"""
COUNT = """
    INSERT INTO log_count SELECT app_name, instance_name, levelname, received_on, count(*)
    FROM log_record GROUP BY 1, 2, 3, 4
"""


def fill(platform: Platform, database: str) -> None:
    """Fill the log table of a database."""
    today = utc_now().date()
    count = RECORDS // DAYS
    for ago in range(DAYS):
        day = today - timedelta(days=ago)
        # As the service makes it: its role owns the partition, and may drop it.
        part = f"{day:log_record_%Y%m%d} PARTITION OF log_record FOR VALUES FROM ('{day}') TO ('{day + timedelta(1)}')"
        platform.sql(database, f"SET ROLE {database}; CREATE TABLE IF NOT EXISTS {part}")
        platform.sql(database, FILL.format(first=FIRST, begin=ago * count, day=day, ago=ago, count=count))
    platform.sql(database, COUNT)
    # What autovacuum does by itself within minutes.
    platform.sql(database, "VACUUM (ANALYZE) log_record")
