"""Migrations run once, whoever asks at the same time, and a wrong schema is refused."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from sluice_core.database import Database, SchemaOutdated, migrate, require_current

MIGRATION = """
from alembic import op

revision = "{own}"
down_revision = {before}


def upgrade() -> None:
    op.execute("CREATE TABLE t{own} (id int)")
"""

AddMigration = Callable[[str], None]


@pytest.fixture
def package(tmp_path: Path) -> Iterator[str]:
    versions = tmp_path / "sluice_growing" / "migrations" / "versions"
    versions.mkdir(parents=True)
    (versions.parents[1] / "__init__.py").touch()
    (versions.parent / "env.py").write_text("from sluice_core.database.alembic_env import run\n\nrun()\n")
    sys.path.insert(0, str(tmp_path))
    yield "sluice_growing"
    sys.path.remove(str(tmp_path))
    sys.modules.pop("sluice_growing", None)


@pytest.fixture
def add(package: str, tmp_path: Path) -> AddMigration:
    versions = tmp_path / package / "migrations" / "versions"

    def write(own: str) -> None:
        before = max((file.name.partition("_")[0] for file in versions.glob("*.py")), default=None)
        (versions / f"{own}_step.py").write_text(MIGRATION.format(own=own, before=repr(before)))

    return write


@pytest.fixture
def database(empty_database: str) -> Iterator[Database]:
    database = Database(empty_database, pool_size=1)
    yield database
    database.close()


def tables(url: str) -> set[str]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return set(connection.execute(text("SELECT relname FROM pg_class WHERE relname ~ '^t0'")).scalars())


def test_a_new_release_brings_what_is_missing(
    empty_database: str, database: Database, package: str, add: AddMigration
) -> None:
    add("0001")
    with pytest.raises(SchemaOutdated, match="growing database is at version none, this program needs 0001"):
        require_current(database, package)
    migrate(empty_database, package)
    require_current(database, package)
    add("0002")
    with pytest.raises(SchemaOutdated, match=r"is at version 0001.* run `sluice migrate --service growing`"):
        require_current(database, package)
    migrate(empty_database, package)
    require_current(database, package)
    assert tables(empty_database) == {"t0001", "t0002"}


def test_a_current_database_is_left_alone(
    empty_database: str, package: str, add: AddMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("0001")
    migrate(empty_database, package)
    # The package has a function of the same name as the module.
    monkeypatch.setattr(sys.modules["sluice_core.database.migrate"], "_upgrade", None)
    migrate(empty_database, package)


def test_replicas_that_migrate_at_the_same_time_wait_for_one(
    empty_database: str, package: str, add: AddMigration
) -> None:
    for number in ("0001", "0002", "0003"):
        add(number)
    with ThreadPoolExecutor(4) as replicas:
        list(replicas.map(lambda _: _migrate_alone(empty_database, package), range(4)))
    assert tables(empty_database) == {"t0001", "t0002", "t0003"}


def _migrate_alone(url: str, package: str) -> None:
    code = f"from sluice_core.database import migrate; migrate({url!r}, {package!r})"
    path = next(entry for entry in sys.path if (Path(entry) / package).is_dir())
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": path})


def test_a_file_that_is_not_named_after_its_version_is_noticed(
    empty_database: str, package: str, add: AddMigration, tmp_path: Path
) -> None:
    add("0001")
    versions = tmp_path / package / "migrations" / "versions"
    (versions / "0001_step.py").rename(versions / "0009_step.py")
    with pytest.raises(RuntimeError, match="the last migration is version 0001, and its file is not named so"):
        migrate(empty_database, package)
