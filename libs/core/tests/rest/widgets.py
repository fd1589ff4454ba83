"""Test-only resources with every kind of field that the contract knows, declared as services declare theirs."""

from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import INET, JSONB

from sluice_core.rest import (
    Attempt,
    Boolean,
    Change,
    Choice,
    DateTime,
    Filter,
    Float,
    ForeignKey,
    Integer,
    Ip,
    Json,
    Lookup,
    Resource,
    Text,
    Url,
    Uuid,
)

metadata = sa.MetaData()

part = sa.Table(
    "part",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("part_name", sa.String(255), nullable=False, unique=True),
)
crate = sa.Table(
    "crate",
    metadata,
    sa.Column("crate_id", sa.Uuid, primary_key=True),
    sa.Column("colour", sa.Text, nullable=False),
)
widget = sa.Table(
    "widget",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("named_part_id", sa.ForeignKey("part.id", ondelete="SET NULL")),
    sa.Column("widget_name", sa.String(100), nullable=False, unique=True),
    sa.Column("owner", sa.String(50), nullable=False),
    sa.Column("remark", sa.String(50)),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("hostname", sa.String(100)),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("status", sa.String(10), nullable=False),
    sa.Column("hue", sa.String(10)),
    sa.Column("level", sa.Integer, nullable=False),
    sa.Column("amount", sa.Integer, nullable=False),
    sa.Column("grade", sa.Integer, nullable=False),
    sa.Column("pid", sa.Integer),
    sa.Column("thread", sa.BigInteger),
    sa.Column("slot", sa.Integer),
    sa.Column("fraction", sa.Double),
    sa.Column("weight", sa.Double, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    sa.Column("is_good", sa.Boolean),
    sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("ended_at", sa.DateTime(timezone=True)),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("home_url", sa.String(200)),
    sa.Column("batch_id", sa.Uuid),
    sa.Column("client_ip", INET),
    sa.Column("payload", JSONB, nullable=False),
    sa.Column("metadata", JSONB(none_as_null=True)),
    sa.Column("options", JSONB, nullable=False),
    sa.Column("part_id", sa.ForeignKey("part.id", ondelete="CASCADE"), nullable=False),
    sa.Column("crate_id", sa.ForeignKey("crate.crate_id", ondelete="CASCADE")),
    sa.UniqueConstraint("part_id", "slot"),
)
label = sa.Table(
    "label",
    metadata,
    sa.Column("label_id", sa.String(100), primary_key=True),
    sa.Column("note", sa.Text, nullable=False),
)
step = sa.Table(
    "step",
    metadata,
    sa.Column("step_number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("note", sa.Text, nullable=False),
)
journal = sa.Table(
    "journal",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
)
history = sa.Table(
    "history",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("before", sa.Text),
    sa.Column("after", sa.Text),
)


class HookBroke(Exception):
    """What the hook of `labels` raises for a row that is called ``cursed``."""


def remember(connection: sa.Connection, change: Change) -> None:
    """Write each change of a label beside it, in the same transaction."""
    before, after = (row and row["note"] for row in (change.before, change.after))
    values: dict[str, Any] = {"resource": "labels", "kind": change.kind, "before": before, "after": after}
    connection.execute(history.insert().values(values))
    if after == "cursed" or before == "eternal":
        raise HookBroke


PARTS = Resource(
    "parts",
    model="Part",
    label="part",
    table=part,
    key="id",
    write="widgets:write",
    fields=(
        Integer("id", read_only=True),
        Text("part_name", required=True, max_length=255, unique=True),
    ),
)
CRATES = Resource(
    "crates",
    model="Crate",
    label="crate",
    table=crate,
    key="crate_id",
    write="widgets:write",
    fields=(
        Uuid("crate_id", read_only=True, default=uuid4),
        Text("colour", blank=True, default=""),
    ),
)
WIDGETS = Resource(
    "widgets",
    model="Widget",
    label="widget",
    table=widget,
    key="id",
    write="widgets:write",
    fields=(
        Integer("id", bits=64, read_only=True),
        ForeignKey("named_part", PARTS, slug="part_name", null=True, stored_as="named_part_id"),
        Text("widget_name", required=True, max_length=100, unique=True),
        Text("owner", required=True, max_length=50),
        Text("remark", null=True, max_length=50),
        Text("description", blank=True, default=""),
        Text("hostname", null=True, blank=True, max_length=100),
        Text("source", default="physics", max_length=64),
        Choice("kind", {"bolt": "A bolt", "nut": "A nut"}, required=True),
        Choice("status", ("UNKNOWN", "OK", "ERROR"), default="UNKNOWN"),
        Choice("hue", ("red", "blue"), null=True, blank=True),
        Choice("level", (0, 10, 20, 30), default=0),
        Integer("amount", required=True),
        Integer("grade", minimum=1, maximum=10, default=5),
        Integer("pid", null=True),
        Integer("thread", bits=64, null=True),
        Integer("slot", null=True),
        Float("fraction", null=True),
        Float("weight", default=1.5),
        Boolean("is_active", default=True),
        Boolean("is_good", null=True),
        DateTime("started_at", required=True),
        DateTime("ended_at", null=True),
        DateTime("created_at", auto="create"),
        DateTime("updated_at", auto="update"),
        Url("home_url", null=True, blank=True, max_length=200),
        Uuid("batch_id", null=True),
        Ip("client_ip", null=True),
        Json("payload", required=True),
        Json("metadata", null=True),
        Json("options", default=dict),
        ForeignKey("part", PARTS, required=True, stored_as="part_id"),
        ForeignKey("crate", CRATES, null=True, stored_as="crate_id"),
    ),
    unique_together=(("part", "slot"),),
    filters=(
        "amount",
        "status",
        "owner",
        "is_active",
        "level",
        "thread",
        "batch_id",
        "fraction",
        "part",
        "crate",
        Filter("start_time", DateTime, lambda c, v: c.started_at >= v),
    ),
)
LABELS = Resource(
    "labels",
    model="Label",
    label="label",
    table=label,
    key="label_id",
    write="widgets:write",
    fields=(
        Text("label_id", required=True, max_length=100, unique=True),
        Text("note", blank=True, default=""),
    ),
    on_change=remember,
)
STEPS = Resource(
    "steps",
    model="Step",
    label="step",
    table=step,
    key="step_number",
    write="widgets:write",
    fields=(
        Integer("step_number", required=True, unique=True),
        Text("note", blank=True, default=""),
    ),
)
JOURNAL = Resource(
    "journal",
    model="JournalEntry",
    label="journal entry",
    table=journal,
    key="id",
    write="widgets:write",
    fields=(
        Integer("id", bits=64, read_only=True),
        DateTime("timestamp", required=True),
        Text("message", required=True),
    ),
    order=("-timestamp",),
    filters=("message",),
    count=False,
    create_open=True,
)
SECRETS = Resource(
    "secrets",
    model="Label",
    label="label",
    table=label,
    key="label_id",
    write="secrets:write",
    fields=LABELS.fields,
    read_open=False,
)
# The same rows, and their note says which namespace they lie in.
BERTHS = Resource(
    "berths",
    model="Label",
    label="label",
    table=label,
    key="label_id",
    write="widgets:write",
    fields=LABELS.fields,
    namespace="note",
    on_change=remember,
)


def abridged(_: sa.Connection, attempt: Attempt) -> None:
    """Fill a note in, and refuse one that is `forbidden`."""
    values = attempt.values
    if attempt.before is None and not values.get("note"):
        values["note"] = f"about {values.get('label_id')}"
    if values.get("note") == "forbidden":
        attempt.errors["note"] = ["This note is forbidden."]


NOTES = Resource(
    "notes",
    model="Note",
    label="note",
    table=label,
    key="label_id",
    key_like="[a-z]+",
    write="widgets:write",
    fields=(
        Text("label_id", required=True, max_length=100, unique=True),
        Text("note", blank=True, default=""),
    ),
    filters=("note",),
    lookup=Lookup(("note",), lambda columns: (columns.label_id.desc(),)),
    tagged=True,
    prepare=abridged,
)
RESOURCES = (PARTS, CRATES, WIDGETS, LABELS, STEPS, JOURNAL, SECRETS, BERTHS, NOTES)

READ_ONLY = frozenset({"id", "created_at", "updated_at"})
