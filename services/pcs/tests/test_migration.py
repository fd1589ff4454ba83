"""A database of the release before becomes one of this release."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

import sluice_pcs
from sluice_core.database import migrate

TAG = "status, description, parameters, created_by"
ROWS = """
INSERT INTO physics_category (digit, name, description, created_by) VALUES (1, 'DIS', '', 'ada');
INSERT INTO physics_tag (tag_number, tag_label, category, {tag}) VALUES (1001, 'p1001', 1, 'locked', '', '{{}}', 'ada');
INSERT INTO evgen_tag (tag_number, tag_label, {tag}) VALUES
    (1, 'e1', 'locked', '', '{{"generator": "EpIC", "generator_version": "1"}}', 'ada'),
    (2, 'e2', 'locked', '', '{{"generator": "EpIC", "generator_version": "1", "notes": "again"}}', 'ada'),
    (3, 'e3', 'locked', '', '{{}}', 'ada');
INSERT INTO simu_tag (tag_number, tag_label, {tag}) VALUES (1, 's1', 'locked', '', '{{}}', 'ada');
INSERT INTO reco_tag (tag_number, tag_label, {tag}) VALUES (1, 'r1', 'locked', '', '{{}}', 'ada');
INSERT INTO dataset (dataset_name, scope, detector_version, detector_config, physics_tag, evgen_tag, simu_tag, reco_tag,
    block_num, blocks, did, file_count, data_size, description, sample_name, propagation, replaced_by,
    expected_events_source, created_by)
SELECT 'd' || e.id || sample, 's', 'v', 'c', p.id, e.id, s.id, r.id, 1, 1, 'd' || e.id || sample, 0, 0, '', sample,
    'continue', '', '', 'ada'
FROM physics_tag AS p, evgen_tag AS e, simu_tag AS s, reco_tag AS r, unnest(ARRAY['', 'x']) AS sample
ORDER BY sample, e.id;
"""


def test_data_sets_of_before_are_editions_of_configurations(empty_database: str) -> None:
    engine = create_engine(empty_database, poolclass=NullPool)
    config = Config()
    config.set_main_option("script_location", str(Path(str(sluice_pcs.__file__)).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with engine.begin() as connection:
        connection.exec_driver_sql(ROWS.format(tag=TAG))
    migrate(empty_database, "sluice_pcs")
    query = """
        SELECT dataset_name, label, evgen_display FROM dataset
        LEFT JOIN physics_config ON physics_config.id = dataset.physics_config ORDER BY dataset.id
    """
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(query))]
        following = connection.execute(text("SELECT next FROM counter WHERE name = 'physics_config'")).scalar()
    assert found == [
        ("d1", "pc1", "EpIC 1"),
        ("d2", "pc1", "EpIC 1"),
        ("d3", None, None),
        ("d1x", "pc2", "EpIC 1"),
        ("d2x", "pc2", "EpIC 1"),
        ("d3x", None, None),
    ]
    assert following == 3
