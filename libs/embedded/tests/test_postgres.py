"""PostgreSQL in a folder."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from sluice_embedded import Postgres, StartFailed, WrongVersion
from sluice_embedded.binaries import PostgresPrograms, postgres_programs, reachable
from sluice_embedded.process import Owner, wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root only")


def connect(server: Postgres, password: str | None = None) -> Connection:
    return psycopg2.connect(
        host="127.0.0.1", port=server.port, user="postgres", dbname="postgres", password=password or server.password
    )


def ask(server: Postgres, query: str) -> str:
    connection = connect(server)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
    connection.close()
    assert row is not None
    return str(row[0])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path / "pg") as running:
        yield running


def test_only_the_password_lets_in(server: Postgres) -> None:
    assert ask(server, "select current_user") == "postgres"
    with pytest.raises(psycopg2.OperationalError, match="authentication failed"):
        connect(server, password="guess")
    hba = (server.workdir / "pg_hba.conf").read_text().splitlines()
    assert {line.split()[-1] for line in hba if line and not line.startswith("#")} == {"reject", "scram-sha-256"}


def test_the_password_is_for_its_owner_only(server: Postgres) -> None:
    assert stat.S_IMODE((server.data / "password").stat().st_mode) == 0o600


def test_commits_are_durable_and_nothing_but_tcp_on_localhost_listens(server: Postgres) -> None:
    told = {name: ask(server, f"show {name}") for name in ("fsync", "listen_addresses", "unix_socket_directories")}
    assert told == {"fsync": "on", "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}


def test_the_admin_url_names_the_driver(server: Postgres) -> None:
    assert server.admin_url.startswith("postgresql+psycopg2://postgres:")
    assert server.url("a/b", "ro:le", "p@ss") == f"postgresql+psycopg2://ro%3Ale:p%40ss@127.0.0.1:{server.port}/a%2Fb"


def test_a_commit_survives_kill(server: Postgres) -> None:
    assert ask(server, "create table kept (n int); insert into kept values (7) returning n") == "7"
    server.kill()
    server.start()
    assert ask(server, "select n from kept") == "7"


def test_a_process_id_that_somebody_else_has_now_does_not_prevent_a_start(server: Postgres) -> None:
    server.kill()
    pid_file = server.workdir / "postmaster.pid"
    pid_file.write_text(pid_file.read_text().replace(pid_file.read_text().split()[0], str(os.getpid()), 1))
    server.start()
    assert server.running


def test_data_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "PG_VERSION").write_text("12\n")
    with pytest.raises(WrongVersion, match=r"data of PostgreSQL 12, and this is \d+;"):
        Postgres(tmp_path).start()


def test_a_half_made_cluster_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "cluster.new" / "base").mkdir(parents=True)
    with Postgres(tmp_path) as server:
        assert ask(server, "select 1") == "1"


def test_a_parent_killed_amid_initdb_does_not_prevent_the_next_start(tmp_path: Path) -> None:
    start = "import pathlib, sys, sluice_embedded as e; e.Postgres(pathlib.Path(sys.argv[1])).start()"
    with subprocess.Popen([sys.executable, "-c", start, str(tmp_path)]) as parent:
        assert wait_until((tmp_path / "cluster.new" / "PG_VERSION").exists, timeout=30)
        parent.kill()
    with Postgres(tmp_path) as server:
        assert ask(server, "select 1") == "1"


def test_settings_reach_the_server(tmp_path: Path) -> None:
    with Postgres(tmp_path, settings={"work_mem": "5MB"}) as server:
        assert ask(server, "show work_mem") == "5MB"


def test_a_failed_start_shows_the_log(tmp_path: Path) -> None:
    server = Postgres(tmp_path, settings={"no_such_setting": "1"})
    with pytest.raises(StartFailed, match="unrecognized configuration parameter"):
        server.start()
    assert not server.running


@as_root
def test_root_serves_as_an_unprivileged_user_from_a_folder_that_is_closed_to_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with Postgres(tmp_path / "deep" / "pg") as server:
        nobody = pwd.getpwnam("nobody").pw_uid
        assert os.stat(f"/proc/{server.pid}").st_uid == nobody
        assert server.data.stat().st_uid == nobody
        assert tmp_path.stat().st_uid == 0


@as_root
def test_root_keeps_the_owner_of_the_data(tmp_path: Path) -> None:
    uid, gid = pwd.getpwnam("daemon")[2:4]
    (tmp_path / "pg").mkdir()
    os.chown(tmp_path / "pg", uid, gid)
    with Postgres(tmp_path / "pg") as server:
        assert os.stat(f"/proc/{server.pid}").st_uid == uid


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach; those of pytest are closed."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@as_root
def test_programs_in_a_closed_folder_are_copied_once(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = postgres_programs()
    (tmp_path / "closed").mkdir(mode=0o700)
    packages = tmp_path / "closed" / "site-packages"
    packages.symlink_to(wheel.folder.parent.parent)
    closed = PostgresPrograms(packages / wheel.folder.parent.name / wheel.folder.name, wheel.version)
    user = pwd.getpwnam("nobody")
    owner = Owner(user.pw_uid, user.pw_gid)

    copy = reachable(closed, owner, open_folder / "copies")
    made = copy.postgres.stat()
    assert copy.folder.is_relative_to(open_folder)
    assert reachable(closed, owner, open_folder / "copies").postgres.stat().st_ino == made.st_ino
    assert [path.name for path in (open_folder / "copies").iterdir()] == [copy.folder.parent.parent.name]

    monkeypatch.setattr("sluice_embedded.binaries.reachable", lambda *_: copy)
    with Postgres(tmp_path / "pg") as server:
        assert ask(server, "show server_version") == wheel.version
        assert os.readlink(f"/proc/{server.pid}/exe") == str(copy.postgres)
