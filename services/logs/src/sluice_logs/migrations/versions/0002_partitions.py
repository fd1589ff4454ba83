"""Log records by day of arrival; ids from blocks; messages that were taken from the stream."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

BLOCK = 10_000_000


def upgrade() -> None:
    for index in ("newest", "of_instance", "severe", "words"):
        op.drop_index(f"log_record_{index}", "log_record")
    op.rename_table("log_record", "log_record_unparted")
    op.execute("ALTER INDEX log_record_pkey RENAME TO log_record_unparted_pkey")
    op.create_table(
        "log_record",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("app_name", sa.String(100), nullable=False),
        sa.Column("instance_name", sa.String(100), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column("levelname", sa.String(50), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("module", sa.String(255), nullable=False),
        sa.Column("funcname", sa.String(255), nullable=False),
        sa.Column("lineno", sa.Integer, nullable=False),
        sa.Column("process", sa.Integer, nullable=False),
        sa.Column("thread", sa.BigInteger, nullable=False),
        sa.Column("extra_data", JSONB),
        sa.Column("received_on", sa.Date, primary_key=True),
        postgresql_partition_by="RANGE (received_on)",
    )
    newest = (sa.text("timestamp DESC"), sa.text("id DESC"))
    of_instance = ("app_name", "instance_name", *newest)
    op.create_index("log_record_newest", "log_record", newest)
    op.create_index("log_record_of_instance", "log_record", of_instance)
    op.create_index(
        "log_record_severe", "log_record", of_instance, postgresql_where=sa.text("levelname IN ('ERROR', 'CRITICAL')")
    )
    words = sa.text("to_tsvector('simple', left(message, 20000))")
    op.create_index("log_record_words", "log_record", (words,), postgresql_using="gin")
    _move()
    op.create_table(
        "log_input",
        sa.Column("message", sa.Text, primary_key=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("log_input_at", "log_input", ("at",))


def _move() -> None:
    """Take over the records that are there; when they arrived is not known, so it is today."""
    connection = op.get_bind()
    newest, today = connection.execute(
        sa.text("SELECT coalesce(max(id), 0), (now() AT TIME ZONE 'UTC')::date FROM log_record_unparted")
    ).one()
    # The first block begins behind the ids that were given.
    first = newest // BLOCK * BLOCK + 1 + (BLOCK if newest else 0)
    op.execute(f"CREATE SEQUENCE log_record_ids AS bigint INCREMENT BY {BLOCK} START WITH {first}")
    if newest:
        op.execute(
            f"CREATE TABLE log_record_{today:%Y%m%d} PARTITION OF log_record "
            f"FOR VALUES FROM ('{today}') TO ('{today}'::date + 1)"
        )
        op.execute("INSERT INTO log_record SELECT *, (now() AT TIME ZONE 'UTC')::date FROM log_record_unparted")
    op.drop_table("log_record_unparted")
