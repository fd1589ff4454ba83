"""Categories, tags that cannot change once locked, datasets, configurations, tasks and the outbox."""

from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

instant = DateTime(timezone=True)
now = text("now()")
KINDS = ("physics", "evgen", "simu", "reco", "background")

# A locked tag is a promise to everybody who will ever read the data (contract 3.2).
IMMUTABLE = """
CREATE FUNCTION keep_locked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION '% may hold locked tags', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
    ELSIF OLD.status = 'locked' THEN
        RAISE EXCEPTION 'tag % is locked', OLD.tag_label USING ERRCODE = 'restrict_violation';
    ELSIF TG_OP = 'DELETE' THEN
        RETURN OLD;
    ELSIF (NEW.id, NEW.tag_number, NEW.tag_label) IS DISTINCT FROM (OLD.id, OLD.tag_number, OLD.tag_label) THEN
        RAISE EXCEPTION 'tag % keeps its number', OLD.tag_label USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$
"""


def made() -> list[Column[Any]]:
    return [
        Column("created_by", String(100), nullable=False),
        Column("created_at", instant, nullable=False, server_default=now),
    ]


def changed() -> Column[Any]:
    return Column("updated_at", instant, nullable=False, server_default=now)


def upgrade() -> None:
    op.create_table(
        "physics_category",
        Column("digit", Integer, primary_key=True, autoincrement=False),
        Column("name", String(100), nullable=False, unique=True),
        Column("description", Text, nullable=False),
        *made(),
    )
    op.execute(IMMUTABLE)
    for kind in KINDS:
        name = f"{kind}_tag"
        category = Column(
            "category", Integer, ForeignKey("physics_category.digit", ondelete="RESTRICT"), nullable=False
        )
        op.create_table(
            name,
            Column("id", BigInteger, Identity(), primary_key=True),
            Column("tag_number", Integer, nullable=False, unique=True),
            Column("tag_label", String(10), nullable=False, unique=True),
            *([category] if kind == "physics" else []),
            Column("status", String(10), nullable=False),
            Column("description", Text, nullable=False),
            Column("parameters", JSONB, nullable=False),
            *made(),
            changed(),
        )
        op.create_index(
            f"{name}_parameters",
            name,
            ["parameters"],
            postgresql_using="gin",
            postgresql_ops={"parameters": "jsonb_path_ops"},
        )
        if kind == "physics":
            op.create_index(f"{name}_category", name, ["category"])
        op.execute(
            f"CREATE TRIGGER keep_locked BEFORE UPDATE OR DELETE ON {name} FOR EACH ROW EXECUTE FUNCTION keep_locked()"
        )
        op.execute(
            f"CREATE TRIGGER keep_all BEFORE TRUNCATE ON {name} FOR EACH STATEMENT EXECUTE FUNCTION keep_locked()"
        )
    op.create_table(
        "counter",
        Column("name", String(50), primary_key=True),
        Column("next", BigInteger, nullable=False),
    )
    op.create_table(
        "tag_change",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("kind", String(1), nullable=False),
        Column("tag_number", Integer, nullable=False),
        Column("action", String(10), nullable=False),
        Column("by", String(150), nullable=False),
        Column("at", instant, nullable=False, server_default=text("clock_timestamp()")),
        Column("before", JSONB),
        Column("after", JSONB),
    )
    op.create_index("tag_change_tag", "tag_change", ["kind", "tag_number", "id"])
    op.create_table(
        "param_def",
        Column("kind", String(1), primary_key=True),
        Column("defs", JSONB, nullable=False),
        Column("updated_by", String(150), nullable=False),
        changed(),
    )
    op.create_table(
        "campaign",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("name", String(100), nullable=False, unique=True),
        Column("lifecycle", String(10), nullable=False),
        Column("description", Text, nullable=False),
        Column("start_date", Date),
        Column("end_date", Date),
        Column("clone_of", BigInteger, ForeignKey("campaign.id", ondelete="SET NULL")),
        Column("data", JSONB),
        *made(),
        changed(),
    )
    op.create_index(
        "campaign_current", "campaign", ["lifecycle"], unique=True, postgresql_where=text("lifecycle = 'current'")
    )
    op.create_table(
        "dataset",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("dataset_name", String(255), nullable=False),
        Column("scope", String(100), nullable=False),
        Column("detector_version", String(50), nullable=False),
        Column("detector_config", String(100), nullable=False),
        *(
            Column(
                f"{kind}_tag",
                BigInteger,
                ForeignKey(f"{kind}_tag.id", ondelete="RESTRICT"),
                nullable=kind == "background",
                index=True,
            )
            for kind in KINDS
        ),
        Column("block_num", Integer, nullable=False),
        Column("blocks", Integer, nullable=False),
        Column("did", String(400), nullable=False, unique=True),
        Column("file_count", Integer, nullable=False),
        Column("data_size", BigInteger, nullable=False),
        Column("description", Text, nullable=False),
        Column("metadata", JSONB),
        Column("campaign", BigInteger, ForeignKey("campaign.id", ondelete="RESTRICT"), index=True),
        Column("sample_name", String(120), nullable=False),
        Column("propagation", String(10), nullable=False),
        Column("replaced_by", String(255), nullable=False),
        Column("expected_events", BigInteger),
        Column("expected_events_source", String(20), nullable=False),
        *made(),
        UniqueConstraint("dataset_name", "block_num"),
    )
    op.create_index("dataset_newest", "dataset", ["created_at", "id"])
    op.create_table(
        "file_report",
        Column("dataset_name", String(255), primary_key=True),
        Column("key", String(200), primary_key=True),
        Column("files", BigInteger, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("answer", JSONB, nullable=False),
        Column("created_at", instant, nullable=False, server_default=now, index=True),
    )
    op.create_table(
        "prod_config",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("name", String(200), nullable=False, unique=True),
        Column("description", Text, nullable=False),
        Column("bg_mixing", Boolean, nullable=False),
        Column("bg_cross_section", String(200), nullable=False),
        Column("bg_evtgen_file", String(500), nullable=False),
        Column("copy_reco", Boolean, nullable=False),
        Column("copy_full", Boolean, nullable=False),
        Column("copy_log", Boolean, nullable=False),
        Column("use_rucio", Boolean, nullable=False),
        Column("jug_xl_tag", String(100), nullable=False),
        Column("container_image", String(500), nullable=False),
        Column("target_hours_per_job", Numeric(6, 2)),
        Column("events_per_task", Integer),
        Column("condor_template", Text, nullable=False),
        Column("panda_site", String(200), nullable=False),
        Column("panda_queue", String(200), nullable=False),
        Column("panda_working_group", String(100), nullable=False),
        Column("panda_resource_type", String(100), nullable=False),
        Column("rucio_rse", String(200), nullable=False),
        Column("rucio_replication_rules", JSONB),
        Column("data", JSONB),
        *made(),
        changed(),
    )
    op.create_index("prod_config_newest", "prod_config", ["updated_at", "id"])
    op.create_table(
        "prod_task",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("name", String(255), nullable=False, unique=True),
        Column("description", Text, nullable=False),
        Column("status", String(10), nullable=False),
        Column("dataset", BigInteger, ForeignKey("dataset.id", ondelete="RESTRICT"), nullable=False, index=True),
        Column(
            "prod_config", BigInteger, ForeignKey("prod_config.id", ondelete="RESTRICT"), nullable=False, index=True
        ),
        Column("campaign", BigInteger, ForeignKey("campaign.id", ondelete="RESTRICT"), index=True),
        Column("requestor", String(100), nullable=False),
        Column("priority", Integer),
        Column("csv_file", String(500), nullable=False),
        Column("overrides", JSONB),
        Column("condor_command", Text, nullable=False),
        Column("panda_command", Text, nullable=False),
        Column("panda_task_id", BigInteger),
        Column("condor_cluster_id", String(100), nullable=False),
        *made(),
        changed(),
    )
    op.create_index("prod_task_newest", "prod_task", ["updated_at", "id"])
    op.create_table(
        "attempt",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("prod_task", BigInteger, ForeignKey("prod_task.id", ondelete="RESTRICT"), nullable=False),
        Column("try_number", Integer, nullable=False),
        Column("jedi_task_id", BigInteger, unique=True),
        Column("task_name", String(300), nullable=False),
        Column("status_snapshot", String(50), nullable=False),
        Column("metadata", JSONB),
        Column("created_at", instant, nullable=False, server_default=now),
        UniqueConstraint("prod_task", "try_number"),
    )
    for name in ("panda_queue", "rucio_endpoint"):
        op.create_table(
            name,
            Column("name", String(200), primary_key=True),
            Column("description", Text, nullable=False),
            Column("status", String(20), nullable=False),
            Column("configuration", JSONB, nullable=False),
            Column("created_at", instant, nullable=False, server_default=now),
            changed(),
        )
    op.create_table(
        "outbox",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("event_id", Uuid, nullable=False),
        Column("subject", Text, nullable=False),
        Column("key", Text, nullable=False),
        Column("schema", Text, nullable=False),
        Column("body", LargeBinary, nullable=False),
        Column("created_at", instant, nullable=False, server_default=now),
    )
