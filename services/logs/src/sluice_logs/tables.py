"""Tables of the log service."""

from sqlalchemy import (
    BigInteger,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    MetaData,
    Sequence,
    SmallInteger,
    String,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

__all__ = [
    "BLOCK",
    "LEVELS",
    "SEVERE",
    "SIMPLE",
    "log_count",
    "log_ids",
    "log_input",
    "log_record",
    "metadata",
    "words",
]

metadata = MetaData()

LEVELS = {0: "NOTSET", 10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
"""The levels that there are, and what they are called (contract 3.2)."""

BLOCK = 10_000_000
"""Ids that a process reserves at once: enough to go on for long while PostgreSQL is away. JavaScript begins to round
them after 900 million blocks."""

log_ids = Sequence("log_record_ids", metadata=metadata, increment=BLOCK, data_type=BigInteger)

# contract 3.2; a partition a day, which retention drops as a whole
log_record = Table(
    "log_record",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("app_name", String(100), nullable=False),
    Column("instance_name", String(100), nullable=False),
    Column("timestamp", DateTime(timezone=True), nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("levelname", String(50), nullable=False),
    Column("message", Text, nullable=False),
    Column("module", String(255), nullable=False),
    Column("funcname", String(255), nullable=False),
    Column("lineno", Integer, nullable=False),
    Column("process", Integer, nullable=False),
    Column("thread", BigInteger, nullable=False),
    Column("extra_data", JSONB(none_as_null=True)),
    # Day of arrival in UTC, and not of `timestamp`, which is whatever the sender says.
    Column("received_on", Date, primary_key=True),
    postgresql_partition_by="RANGE (received_on)",
)

# How many records there are, so that nobody has to look at all of them: written in the transaction of the records, and
# by a trigger where one is changed or deleted. Rows are rewritten all the time, within their page.
log_count = Table(
    "log_count",
    metadata,
    Column("app_name", String(100), primary_key=True),
    Column("instance_name", String(100), primary_key=True),
    Column("levelname", String(50), primary_key=True),
    Column("received_on", Date, primary_key=True),
    Column("records", BigInteger, nullable=False),
    postgresql_with={"fillfactor": 50},
)

# Messages of the stream whose records are stored, as the stream may deliver them again.
log_input = Table(
    "log_input",
    metadata,
    Column("message", Text, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("log_input_at", "at"),
)

# The words of a message as they stand, since log lines are no prose in any language. PostgreSQL keeps 1 MB of words
# at the most, so those beyond the first 20,000 characters are not searched.
SIMPLE = text("'simple'")
words = func.to_tsvector(SIMPLE, func.left(log_record.c.message, 20000))

SEVERE = log_record.c.levelname.in_(("ERROR", "CRITICAL"))
"""What the summary calls an error: by name, whatever the level (contract 3.2)."""

_newest = (log_record.c.timestamp.desc(), log_record.c.id.desc())
Index("log_record_newest", *_newest)
Index("log_record_of_instance", log_record.c.app_name, log_record.c.instance_name, *_newest)
# Errors are few, so this one is nearly free on writing, and the summary need not look at all the others.
Index("log_record_severe", log_record.c.app_name, log_record.c.instance_name, *_newest, postgresql_where=SEVERE)
# By far the most frequent question about `extra_data`: what happened in this execution. Others look through a window.
execution = log_record.c.extra_data["execution_id"].astext
Index("log_record_of_execution", execution, *_newest, postgresql_where=execution.is_not(None))
Index("log_record_words", words, postgresql_using="gin")
