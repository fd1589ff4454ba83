"""Physics configurations, of which campaigns have editions; use and outputs of tasks, and how attempts became known."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, DateTime, ForeignKey, Identity, String, text
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

instant = DateTime(timezone=True)
now = text("now()")

# Who a configuration is (contract 10.3); null where the event generation tag does not say.
KEY = """
CREATE FUNCTION physics_config_key(physics text, evgen jsonb, background text, sample text)
RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN coalesce(evgen ->> 'generator', '') = '' OR coalesce(evgen ->> 'generator_version', '') = '' THEN NULL
        WHEN length(key) > 500 THEN left(key, 436) || encode(sha256(convert_to(key, 'UTF8')), 'hex')
        ELSE key
    END
    FROM (
        SELECT jsonb_build_array(
            physics, evgen -> 'generator', evgen -> 'generator_version', coalesce(evgen ->> 'radiative', ''),
            coalesce(background, ''), sample
        )::text AS key
    ) AS whole
$$
"""
# The editions that are there already, in the order in which they were made.
FILL = """
WITH edition AS (
    SELECT dataset.id, dataset.physics_tag, dataset.background_tag, dataset.sample_name, e.parameters,
        physics_config_key(p.tag_label, e.parameters, k.tag_label, dataset.sample_name) AS config_key
    FROM dataset JOIN physics_tag AS p ON p.id = dataset.physics_tag JOIN evgen_tag AS e ON e.id = dataset.evgen_tag
    LEFT JOIN background_tag AS k ON k.id = dataset.background_tag
), config AS (
    SELECT DISTINCT ON (config_key) * FROM edition WHERE config_key IS NOT NULL ORDER BY config_key, id
)
INSERT INTO physics_config (label, config_key, physics_tag, background_tag, sample_name, evgen_display, requestors)
SELECT 'pc' || row_number() OVER (ORDER BY id), config_key, physics_tag, background_tag, sample_name,
    left(concat_ws(' ', parameters ->> 'generator', parameters ->> 'generator_version',
        'radiative ' || nullif(parameters ->> 'radiative', '')), 300), '[]'
FROM config
"""
LINK = """
UPDATE dataset SET physics_config = config.id
FROM physics_config AS config, physics_tag AS p, evgen_tag AS e
WHERE p.id = dataset.physics_tag AND e.id = dataset.evgen_tag
AND config.config_key = physics_config_key(
    p.tag_label, e.parameters,
    (SELECT k.tag_label FROM background_tag AS k WHERE k.id = dataset.background_tag), dataset.sample_name
)
"""
COUNT = "INSERT INTO counter (name, next) SELECT 'physics_config', count(*) + 1 FROM physics_config"


def upgrade() -> None:
    op.create_table(
        "physics_config",
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("label", String(16), nullable=False, unique=True),
        Column("config_key", String(500), nullable=False, unique=True),
        Column("physics_tag", BigInteger, ForeignKey("physics_tag.id", ondelete="RESTRICT"), nullable=False),
        Column("background_tag", BigInteger, ForeignKey("background_tag.id", ondelete="RESTRICT")),
        Column("sample_name", String(120), nullable=False),
        Column("evgen_display", String(300), nullable=False),
        Column("requestors", JSONB, nullable=False),
        Column("metadata", JSONB),
        Column("created_at", instant, nullable=False, server_default=now),
        Column("updated_at", instant, nullable=False, server_default=now),
    )
    op.create_index("physics_config_physics_tag", "physics_config", ["physics_tag"])
    op.create_index("physics_config_background_tag", "physics_config", ["background_tag"])
    op.add_column(
        "dataset",
        Column("physics_config", BigInteger, ForeignKey("physics_config.id", ondelete="RESTRICT"), index=True),
    )
    for statement in (KEY, FILL, LINK, COUNT):
        op.execute(statement)
    for name in ("pre_tdr_use", "early_science_use", "other_use", "new_request"):
        op.add_column("prod_task", Column(name, Boolean, nullable=False, server_default=text("false")))
        op.alter_column("prod_task", name, server_default=None)
    for name, length in (("site", 200), ("association_source", 20), ("match_reason", 200)):
        op.add_column("attempt", Column(name, String(length), nullable=False, server_default=""))
        op.alter_column("attempt", name, server_default=None)
    op.create_table(
        "task_output",
        Column("prod_task", BigInteger, ForeignKey("prod_task.id", ondelete="RESTRICT"), primary_key=True),
        Column("name", String(500), primary_key=True),
        Column("did", String(400), nullable=False),
        Column("created_at", instant, nullable=False, server_default=now),
    )
