"""Counts of log records, and their index by execution."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

CHANGED = """
CREATE FUNCTION log_record_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE log_count SET records = records - 1
    WHERE (app_name, instance_name, levelname, received_on)
        = (OLD.app_name, OLD.instance_name, OLD.levelname, OLD.received_on);
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO log_count AS known
        VALUES (NEW.app_name, NEW.instance_name, NEW.levelname, NEW.received_on, 1)
        ON CONFLICT (app_name, instance_name, levelname, received_on) DO UPDATE SET records = known.records + 1;
    END IF;
    RETURN NULL;
END
$$
"""


def upgrade() -> None:
    op.create_table(
        "log_count",
        sa.Column("app_name", sa.String(100), primary_key=True),
        sa.Column("instance_name", sa.String(100), primary_key=True),
        sa.Column("levelname", sa.String(50), primary_key=True),
        sa.Column("received_on", sa.Date, primary_key=True),
        sa.Column("records", sa.BigInteger, nullable=False),
        postgresql_with={"fillfactor": 50},
    )
    op.execute(
        "INSERT INTO log_count SELECT app_name, instance_name, levelname, received_on, count(*) FROM log_record "
        "GROUP BY 1, 2, 3, 4"
    )
    op.execute(CHANGED)
    op.execute(
        "CREATE TRIGGER log_record_changed AFTER UPDATE OR DELETE ON log_record "
        "FOR EACH ROW EXECUTE FUNCTION log_record_changed()"
    )
    execution = "(extra_data ->> 'execution_id')"
    op.create_index(
        "log_record_of_execution",
        "log_record",
        (sa.text(execution), sa.text("timestamp DESC"), sa.text("id DESC")),
        postgresql_where=sa.text(f"{execution} IS NOT NULL"),
    )
