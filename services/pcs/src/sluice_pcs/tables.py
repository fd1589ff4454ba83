"""Tables of the physics configuration service."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from sluice_core.outbox import outbox_table
from sluice_pcs.kinds import KINDS, Kind

__all__ = [
    "USES",
    "attempt",
    "campaign",
    "counter",
    "dataset",
    "file_report",
    "metadata",
    "outbox",
    "panda_queue",
    "param_def",
    "physics_category",
    "physics_config",
    "prod_config",
    "prod_task",
    "rucio_endpoint",
    "tag_change",
    "tags",
    "task_output",
]

metadata = MetaData()
Instant = DateTime(timezone=True)
AnyJson = JSONB(none_as_null=True)
NOW = text("now()")


def _made() -> list[Column[Any]]:
    """Return who made a row, and when."""
    return [
        Column("created_by", String(100), nullable=False),
        Column("created_at", Instant, nullable=False, server_default=NOW),
    ]


def _changed() -> Column[Any]:
    return Column("updated_at", Instant, nullable=False, server_default=NOW)


# contract 2.1
physics_category = Table(
    "physics_category",
    metadata,
    Column("digit", Integer, primary_key=True, autoincrement=False),
    Column("name", String(100), nullable=False, unique=True),
    Column("description", Text, nullable=False),
    *_made(),
)


def _tag_table(kind: Kind) -> Table:
    """Return the table of one kind; triggers of the migration keep what is locked."""
    category = Column("category", Integer, ForeignKey("physics_category.digit", ondelete="RESTRICT"), nullable=False)
    name = f"{kind.name}_tag"
    table = Table(
        name,
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("tag_number", Integer, nullable=False, unique=True),
        Column("tag_label", String(10), nullable=False, unique=True),
        *([category] if kind.letter == "p" else []),
        Column("status", String(10), nullable=False),
        Column("description", Text, nullable=False),
        Column("parameters", JSONB, nullable=False),
        *_made(),
        _changed(),
    )
    Index(
        f"{name}_parameters",
        table.c.parameters,
        postgresql_using="gin",
        postgresql_ops={"parameters": "jsonb_path_ops"},
    )
    if kind.letter == "p":
        Index(f"{name}_category", table.c.category)
    return table


# contract 2.2, 10.1
tags = {kind.letter: _tag_table(kind) for kind in KINDS}

# A row for each kind of numbers, so that they do not wait for each other (contract 13).
counter = Table(
    "counter",
    metadata,
    Column("name", String(50), primary_key=True),
    Column("next", BigInteger, nullable=False),
)

# Who did what to a tag, and which numbers were ever given: a deleted tag's is not given again.
tag_change = Table(
    "tag_change",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("kind", String(1), nullable=False),
    Column("tag_number", Integer, nullable=False),
    Column("action", String(10), nullable=False),
    Column("by", String(150), nullable=False),
    Column("at", Instant, nullable=False, server_default=text("clock_timestamp()")),
    Column("before", AnyJson),
    Column("after", AnyJson),
)
Index("tag_change_tag", tag_change.c.kind, tag_change.c.tag_number, tag_change.c.id)

# contract 4; no row: the built-in definitions
param_def = Table(
    "param_def",
    metadata,
    Column("kind", String(1), primary_key=True),
    Column("defs", JSONB, nullable=False),
    Column("updated_by", String(150), nullable=False),
    _changed(),
)

# contract 10.3
campaign = Table(
    "campaign",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("lifecycle", String(10), nullable=False),
    Column("description", Text, nullable=False),
    Column("start_date", Date),
    Column("end_date", Date),
    Column("clone_of", BigInteger, ForeignKey("campaign.id", ondelete="SET NULL")),
    Column("data", AnyJson),
    *_made(),
    _changed(),
)
Index("campaign_current", campaign.c.lifecycle, unique=True, postgresql_where=text("lifecycle = 'current'"))


def _tag_key(kind: Kind) -> Column[Any]:
    return Column(
        f"{kind.name}_tag",
        BigInteger,
        ForeignKey(f"{kind.name}_tag.id", ondelete="RESTRICT"),
        nullable=kind.letter == "k",
        index=True,
    )


# contract 10.3: what editions of campaigns have in common; the migration has the function that makes its key
physics_config = Table(
    "physics_config",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("label", String(16), nullable=False, unique=True),
    Column("config_key", String(500), nullable=False, unique=True),
    Column("physics_tag", BigInteger, ForeignKey("physics_tag.id", ondelete="RESTRICT"), nullable=False),
    Column("background_tag", BigInteger, ForeignKey("background_tag.id", ondelete="RESTRICT")),
    Column("sample_name", String(120), nullable=False),
    Column("evgen_display", String(300), nullable=False),
    Column("requestors", JSONB, nullable=False),
    Column("metadata", AnyJson),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    _changed(),
)
Index("physics_config_physics_tag", physics_config.c.physics_tag)
Index("physics_config_background_tag", physics_config.c.background_tag)

# contract 2.3, 10.2; one row a block
dataset = Table(
    "dataset",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("dataset_name", String(255), nullable=False),
    Column("scope", String(100), nullable=False),
    Column("detector_version", String(50), nullable=False),
    Column("detector_config", String(100), nullable=False),
    *map(_tag_key, KINDS),
    Column("block_num", Integer, nullable=False),
    Column("blocks", Integer, nullable=False),
    Column("did", String(400), nullable=False, unique=True),
    Column("file_count", Integer, nullable=False),
    Column("data_size", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
    Column("metadata", AnyJson),
    Column("campaign", BigInteger, ForeignKey("campaign.id", ondelete="RESTRICT"), index=True),
    Column("sample_name", String(120), nullable=False),
    Column("propagation", String(10), nullable=False),
    Column("replaced_by", String(255), nullable=False),
    Column("expected_events", BigInteger),
    Column("expected_events_source", String(20), nullable=False),
    Column("physics_config", BigInteger, ForeignKey("physics_config.id", ondelete="RESTRICT"), index=True),
    *_made(),
    UniqueConstraint("dataset_name", "block_num"),
)
Index("dataset_newest", dataset.c.created_at, dataset.c.id)

# A report of files that is sent again changes nothing.
file_report = Table(
    "file_report",
    metadata,
    Column("dataset_name", String(255), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("files", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("answer", JSONB, nullable=False),
    Column("created_at", Instant, nullable=False, server_default=NOW, index=True),
)

# contract 2.4, 10.4
prod_config = Table(
    "prod_config",
    metadata,
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
    Column("rucio_replication_rules", AnyJson),
    Column("data", AnyJson),
    *_made(),
    _changed(),
)
Index("prod_config_newest", prod_config.c.updated_at, prod_config.c.id)

# contract 10.4
USES = ("pre_tdr_use", "early_science_use", "other_use", "new_request")
prod_task = Table(
    "prod_task",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("description", Text, nullable=False),
    Column("status", String(10), nullable=False),
    Column("dataset", BigInteger, ForeignKey("dataset.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("prod_config", BigInteger, ForeignKey("prod_config.id", ondelete="RESTRICT"), nullable=False, index=True),
    Column("campaign", BigInteger, ForeignKey("campaign.id", ondelete="RESTRICT"), index=True),
    Column("requestor", String(100), nullable=False),
    Column("priority", Integer),
    Column("csv_file", String(500), nullable=False),
    Column("overrides", AnyJson),
    Column("condor_command", Text, nullable=False),
    Column("panda_command", Text, nullable=False),
    Column("panda_task_id", BigInteger),
    Column("condor_cluster_id", String(100), nullable=False),
    *(Column(name, Boolean, nullable=False) for name in USES),
    *_made(),
    _changed(),
)
Index("prod_task_newest", prod_task.c.updated_at, prod_task.c.id)

# contract 10.4: what was submitted for a task
attempt = Table(
    "attempt",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("prod_task", BigInteger, ForeignKey("prod_task.id", ondelete="RESTRICT"), nullable=False),
    Column("try_number", Integer, nullable=False),
    Column("jedi_task_id", BigInteger, unique=True),
    Column("task_name", String(300), nullable=False),
    Column("status_snapshot", String(50), nullable=False),
    Column("site", String(200), nullable=False),
    Column("association_source", String(20), nullable=False),
    Column("match_reason", String(200), nullable=False),
    Column("metadata", AnyJson),
    Column("created_at", Instant, nullable=False, server_default=NOW),
    UniqueConstraint("prod_task", "try_number"),
)

# contract 10.4: files that attempts of a task have made, as far as somebody has said so
task_output = Table(
    "task_output",
    metadata,
    Column("prod_task", BigInteger, ForeignKey("prod_task.id", ondelete="RESTRICT"), primary_key=True),
    Column("name", String(500), primary_key=True),
    Column("did", String(400), nullable=False),
    Column("created_at", Instant, nullable=False, server_default=NOW),
)


def _computing(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("name", String(200), primary_key=True),
        Column("description", Text, nullable=False),
        Column("status", String(20), nullable=False),
        Column("configuration", JSONB, nullable=False),
        Column("created_at", Instant, nullable=False, server_default=NOW),
        _changed(),
    )


panda_queue = _computing("panda_queue")
rucio_endpoint = _computing("rucio_endpoint")

outbox = outbox_table(metadata)
