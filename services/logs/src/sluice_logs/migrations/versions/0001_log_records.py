"""Log records."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "log_record",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
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
