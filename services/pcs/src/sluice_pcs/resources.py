"""Categories, tags, data sets, configurations and tasks, as the contract's tables have them."""

import json
from typing import Any

from sqlalchemy import ColumnElement, or_
from sqlalchemy import Text as SqlText

from sluice_core.auth import Scope
from sluice_core.rest import (
    Boolean,
    Choice,
    DateTime,
    Derived,
    Field,
    FieldError,
    Filter,
    ForeignKey,
    Integer,
    Json,
    Resource,
    Text,
)
from sluice_core.rest.resource import Columns
from sluice_pcs import tables
from sluice_pcs.fields import Date, DecimalNumber, Name, Object
from sluice_pcs.kinds import BACKGROUND, KINDS, PHYSICS, Kind

__all__ = [
    "CAMPAIGNS",
    "CATEGORIES",
    "DATASETS",
    "PANDA_QUEUES",
    "PHYSICS_CONFIGS",
    "PROD_CONFIGS",
    "PROD_TASKS",
    "RUCIO_ENDPOINTS",
    "TAGS",
    "TAGS_BY_ID",
]

PREFIX = "/pcs/api"
# 2.1: a tag of 10 MB would be in the answer of each list.
TAG_BODY = 2**20


def _made() -> tuple[Field, ...]:
    return Text("created_by", required=True, max_length=100), DateTime("created_at", auto="create")


def _with_wildcards_plain(text: str) -> str:
    return "".join(f"\\{each}" if each in "\\%_" else each for each in text)


def _containing(*names: str) -> Filter:
    """Return the filter ``?search=``: a text that one of the columns contains, whatever its case."""

    def clause(columns: Columns, value: str) -> ColumnElement[bool]:
        pattern = f"%{_with_wildcards_plain(value)}%"
        return or_(*(columns[name].cast(SqlText).ilike(pattern, escape="\\") for name in names))

    return Filter("search", Text("search", help=f"Text that {', '.join(names)} contains, in any case."), clause)


class _Document(Object):
    """A JSON object in a query parameter."""

    def filter_value(self, raw: str, zone: Any) -> Any:
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            raise FieldError("Value must be valid JSON.") from None
        return self.convert(value, zone)

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


# contract 5.2
CATEGORIES = Resource(
    "physics-categories",
    model="PhysicsCategory",
    label="physics category",
    table=tables.physics_category,
    key="digit",
    write=Scope.PCS_WRITE,
    fields=(
        Integer("digit", required=True, minimum=1, maximum=9, unique=True),
        Text("name", required=True, max_length=100, unique=True),
        Text("description", blank=True, default=""),
        *_made(),
        Derived(
            "tag_count",
            sql="(SELECT count(*) FROM physics_tag WHERE physics_tag.category = physics_category.digit)",
            kind="integer",
        ),
    ),
    on_detail=("PATCH",),
    prefix=PREFIX,
    description="Physics areas; the digit is the thousands of the numbers of their tags.",
)


def _tags(kind: Kind) -> Resource:
    table = tables.tags[kind.letter]
    category: tuple[Field, ...] = ()
    filters: tuple[str, ...] = ()
    if kind == PHYSICS:
        category = (
            ForeignKey("category", CATEGORIES, required=True),
            ForeignKey("category_name", CATEGORIES, slug="name", stored_as="category", read_only=True),
        )
        filters = ("category",)
    return Resource(
        kind.resource,
        model=kind.model,
        label=f"{kind.name} tag",
        table=table,
        key="tag_number",
        write=Scope.PCS_WRITE,
        fields=(
            Integer("id", bits=64, read_only=True),
            Integer("tag_number", read_only=True),
            Text("tag_label", read_only=True, max_length=10),
            *category,
            Choice("status", ("draft", "locked"), read_only=True, default="draft"),
            Text("description", blank=True, default=""),
            Object("parameters", default=dict),
            *_made(),
            DateTime("updated_at", auto="update"),
        ),
        on_detail=("PATCH",),
        filters=(
            "status",
            "created_by",
            *filters,
            _containing("tag_label", "description", "parameters"),
            Filter(
                "parameters",
                _Document("parameters", help="JSON object: tags with these parameters and no others."),
                lambda columns, value: columns.parameters.contains(value) & (columns.parameters == value),
            ),
            Filter(
                "contains",
                _Document("contains", help="JSON object: tags that have these parameters among theirs."),
                lambda columns, value: columns.parameters.contains(value),
            ),
        ),
        prefix=PREFIX,
        description=f"{kind.title} tags: drafts may change, locked ones never.",
        body_limit=TAG_BODY,
    )


TAGS = {kind.letter: _tags(kind) for kind in KINDS}
"""By the letter of their kind."""

LIFECYCLES = ("past", "last", "current", "future")

# contract 10.3
CAMPAIGNS = Resource(
    "campaigns",
    model="Campaign",
    label="campaign",
    table=tables.campaign,
    key="id",
    write=Scope.PCS_WRITE,
    fields=(
        Integer("id", bits=64, read_only=True),
        Text("name", required=True, max_length=100, unique=True),
        Choice("lifecycle", LIFECYCLES, read_only=True, default="future"),
        Text("description", blank=True, default=""),
        Date("start_date", null=True),
        Date("end_date", null=True),
        Integer("clone_of", bits=64, null=True, read_only=True),
        Json("data", null=True),
        *_made(),
        DateTime("updated_at", auto="update"),
    ),
    filters=("name", "lifecycle"),
    prefix=PREFIX,
    description="Campaigns of production; one is the current one.",
)


def _tag_of(kind: Kind) -> ForeignKey:
    return ForeignKey(f"{kind.name}_tag", TAGS_BY_ID[kind.letter], required=kind != BACKGROUND, null=kind == BACKGROUND)


def _label_of(kind: Kind) -> ForeignKey:
    return ForeignKey(
        f"{kind.name}_tag_label",
        TAGS_BY_ID[kind.letter],
        slug="tag_label",
        stored_as=f"{kind.name}_tag",
        read_only=True,
        null=kind == BACKGROUND,
    )


# Data sets refer to tags by their ids, not by their numbers (contract 2.2).
TAGS_BY_ID = {
    kind.letter: Resource(
        kind.resource,
        model=kind.model,
        label=f"{kind.name} tag",
        table=tables.tags[kind.letter],
        key="id",
        write=Scope.PCS_WRITE,
        fields=TAGS[kind.letter].fields,
    )
    for kind in KINDS
}
FOUR = KINDS[:4]


def _physics_configs(key: str) -> Resource:
    return Resource(
        "physics-configs",
        model="PhysicsConfig",
        label="physics config",
        table=tables.physics_config,
        key=key,
        write=Scope.PCS_WRITE,
        fields=(
            Integer("id", bits=64, read_only=True),
            Text("label", read_only=True, max_length=16),
            Text("config_key", read_only=True, max_length=500),
            *(make(kind) for make in (_tag_of, _label_of) for kind in (PHYSICS, BACKGROUND)),
            Text("sample_name", read_only=True, max_length=120),
            Text("evgen_display", read_only=True, max_length=300),
            Json("requestors", read_only=True),
            Json("metadata", null=True, read_only=True),
            Derived(
                "editions",
                sql="(SELECT coalesce(jsonb_agg(jsonb_build_object('campaign', campaign.name, 'dataset_name', "
                "dataset.dataset_name) ORDER BY dataset.id), '[]'::jsonb) FROM dataset LEFT JOIN campaign "
                "ON campaign.id = dataset.campaign WHERE dataset.physics_config = physics_config.id "
                "AND dataset.block_num = 1)",
                kind="array",
            ),
            DateTime("created_at", auto="create"),
            DateTime("updated_at", auto="update"),
        ),
        order=("id",),
        on_list=(),
        on_detail=(),
        filters=("physics_tag", "background_tag", "sample_name", _containing("label", "config_key", "requestors")),
        prefix=PREFIX,
        description="What editions of campaigns have in common; made with the first edition.",
    )


# contract 10.3; read by its label, referred to by its id
PHYSICS_CONFIGS = _physics_configs("label")
PHYSICS_CONFIGS_BY_ID = _physics_configs("id")


def _from_metadata(name: str, *path: str) -> Derived:
    return Derived(name, sql=f"(dataset.metadata #>> '{{{','.join(path)}}}')", null=True)


# contract 5.4; what section 10.2 adds comes last
DATASETS = Resource(
    "datasets",
    model="Dataset",
    label="dataset",
    table=tables.dataset,
    key="id",
    write=Scope.PCS_WRITE,
    fields=(
        Integer("id", bits=64, read_only=True),
        Text("dataset_name", read_only=True, max_length=255),
        Name("scope", max_length=100, default="group.EIC"),
        Name("detector_version", required=True, max_length=50),
        Name("detector_config", required=True, max_length=100),
        *map(_tag_of, FOUR),
        *map(_label_of, FOUR),
        Integer("block_num", read_only=True, default=1),
        Integer("blocks", read_only=True, default=1),
        Text("did", read_only=True, max_length=400, unique=True),
        Integer("file_count", read_only=True, default=0),
        Integer("data_size", bits=64, read_only=True, default=0),
        Text("description", blank=True, default=""),
        Json("metadata", null=True),
        *_made(),
        _tag_of(BACKGROUND),
        _label_of(BACKGROUND),
        Derived("composed_name", sql="dataset.dataset_name"),
        ForeignKey("campaign", CAMPAIGNS, null=True),
        Name("sample_name", blank=True, default="", max_length=120),
        Choice("propagation", ("continue", "hold", "final"), default="continue"),
        Text("replaced_by", blank=True, default="", max_length=255),
        Integer("expected_events", bits=64, minimum=0, null=True),
        Choice("expected_events_source", ("included", "requested", "derived"), blank=True, default=""),
        _from_metadata("stage", "stage"),
        Derived("external", sql="(dataset.metadata #>> '{source,kind}' IS NOT NULL)", kind="boolean"),
        _from_metadata("source_kind", "source", "kind"),
        _from_metadata("source_location", "source", "location"),
        _from_metadata("validation_status", "validation", "status"),
        ForeignKey("physics_config", PHYSICS_CONFIGS_BY_ID, read_only=True, null=True),
        ForeignKey(
            "physics_config_label",
            PHYSICS_CONFIGS_BY_ID,
            slug="label",
            stored_as="physics_config",
            read_only=True,
            null=True,
        ),
    ),
    order=("-created_at",),
    on_detail=(),
    filters=(
        "dataset_name",
        "did",
        "scope",
        "detector_version",
        "detector_config",
        *(f"{kind.name}_tag" for kind in KINDS),
        "block_num",
        "campaign",
        "physics_config",
        "created_by",
        _containing("dataset_name", "description"),
    ),
    prefix=PREFIX,
    description="Compositions of locked tags; a row for each block of up to 100,000 files.",
)


def _short(name: str, length: int) -> Text:
    return Text(name, blank=True, default="", max_length=length)


# contract 2.4, 5.5
PROD_CONFIGS = Resource(
    "prod-configs",
    model="ProdConfig",
    label="prod config",
    table=tables.prod_config,
    key="id",
    write=Scope.PCS_WRITE,
    fields=(
        Integer("id", bits=64, read_only=True),
        Text("name", required=True, max_length=200, unique=True),
        Text("description", blank=True, default=""),
        Boolean("bg_mixing", default=False),
        _short("bg_cross_section", 200),
        _short("bg_evtgen_file", 500),
        Boolean("copy_reco", default=True),
        Boolean("copy_full", default=False),
        Boolean("copy_log", default=True),
        Boolean("use_rucio", default=True),
        _short("jug_xl_tag", 100),
        _short("container_image", 500),
        DecimalNumber("target_hours_per_job", digits=6, places=2, null=True),
        Integer("events_per_task", minimum=0, null=True),
        Text("condor_template", blank=True, default="", trim=False),
        _short("panda_site", 200),
        _short("panda_queue", 200),
        _short("panda_working_group", 100),
        _short("panda_resource_type", 100),
        _short("rucio_rse", 200),
        Json("rucio_replication_rules", null=True),
        Object("data", null=True),
        *_made(),
        DateTime("updated_at", auto="update"),
    ),
    order=("-updated_at",),
    filters=("name", "created_by", _containing("name", "description", "jug_xl_tag")),
    prefix=PREFIX,
    description="Templates of operational settings for the submission of jobs.",
)

STATUSES = ("draft", "ready", "submitted", "completed", "failed")

# contract 10.4; read and written by its composed name
PROD_TASKS = Resource(
    "prod-tasks",
    model="ProdTask",
    label="prod task",
    table=tables.prod_task,
    key="id",
    write=Scope.PCS_WRITE,
    fields=(
        Integer("id", bits=64, read_only=True),
        Text("name", required=True, max_length=255, unique=True),
        Derived(
            "composed_name",
            sql="(SELECT dataset.dataset_name FROM dataset WHERE dataset.id = prod_task.dataset)",
        ),
        Text("description", blank=True, default=""),
        Choice("status", STATUSES, read_only=True, default="draft"),
        ForeignKey("dataset", DATASETS, required=True),
        ForeignKey("dataset_name", DATASETS, slug="dataset_name", stored_as="dataset", read_only=True),
        ForeignKey("dataset_did", DATASETS, slug="did", stored_as="dataset", read_only=True),
        ForeignKey("prod_config", PROD_CONFIGS, required=True),
        ForeignKey("prod_config_name", PROD_CONFIGS, slug="name", stored_as="prod_config", read_only=True),
        _short("csv_file", 500),
        Object("overrides", null=True),
        Derived("input_dataset_dids", sql="coalesce(prod_task.overrides -> 'input_dids', '[]'::jsonb)", kind="array"),
        Derived(
            "output_dataset_dids",
            sql="(SELECT jsonb_agg(block.did ORDER BY block.block_num) FROM dataset JOIN dataset AS block "
            "ON block.dataset_name = dataset.dataset_name WHERE dataset.id = prod_task.dataset)",
            kind="array",
        ),
        Derived("intermediate_dataset_dids", sql="'[]'::jsonb", kind="array"),
        Text("condor_command", read_only=True, default=""),
        Text("panda_command", read_only=True, default=""),
        Integer("panda_task_id", bits=64, read_only=True, null=True),
        Derived(
            "panda_tasks",
            sql="(SELECT coalesce(jsonb_agg(jsonb_build_object('id', attempt.id, 'try_number', attempt.try_number, "
            "'jedi_task_id', attempt.jedi_task_id, 'task_name', attempt.task_name, 'out_ds', attempt.task_name, "
            "'log_ds', attempt.task_name || '_log/', 'site', attempt.site, "
            "'status_snapshot', attempt.status_snapshot, 'association_source', attempt.association_source, "
            "'match_reason', attempt.match_reason, 'metadata', attempt.metadata, "
            "'current', coalesce(attempt.jedi_task_id = prod_task.panda_task_id, false)) "
            "ORDER BY attempt.try_number), '[]'::jsonb) FROM attempt WHERE attempt.prod_task = prod_task.id)",
            kind="array",
        ),
        Text("condor_cluster_id", read_only=True, default="", max_length=100),
        *_made(),
        DateTime("updated_at", auto="update"),
        ForeignKey("campaign", CAMPAIGNS, null=True),
        _short("requestor", 100),
        Integer("priority", null=True),
        *(Boolean(name, default=False) for name in tables.USES),
    ),
    order=("-updated_at",),
    filters=("status", "dataset", "prod_config", "campaign", "created_by", _containing("name", "description")),
    prefix=PREFIX,
    description="A data set and a configuration, on their way through submission.",
)


def _computing(name: str, model: str, label: str, table: Any, description: str) -> Resource:
    return Resource(
        name,
        model=model,
        label=label,
        table=table,
        key="name",
        write=Scope.PCS_ADMIN,
        fields=(
            Text("name", required=True, max_length=200, unique=True),
            Text("description", blank=True, default=""),
            Text("status", max_length=20, default="active"),
            Object("configuration", default=dict),
            DateTime("created_at", auto="create"),
            DateTime("updated_at", auto="update"),
        ),
        filters=("status", _containing("name", "description")),
        description=description,
    )


PANDA_QUEUES = _computing("panda-queues", "PandaQueue", "panda queue", tables.panda_queue, "Queues of PanDA.")
RUCIO_ENDPOINTS = _computing(
    "rucio-endpoints", "RucioEndpoint", "rucio endpoint", tables.rucio_endpoint, "Storage elements of Rucio."
)
