"""The data directory belongs to one process, and keeps its secrets to itself."""

import json
import stat
from pathlib import Path

import pytest

from sluice.data import DataDirectory
from sluice_core.cli import Failure


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_random_kept_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "a") as one, DataDirectory(tmp_path / "b") as other:
        password, token = one.password("sluice_logs"), one.admin_token_file.read_text()
        assert password != other.password("sluice_logs")
        assert password != one.password("sluice_stream")
        assert token != other.admin_token_file.read_text()
    with DataDirectory(tmp_path / "a") as again:
        assert (again.password("sluice_logs"), again.admin_token_file.read_text()) == (password, token)
        assert mode(again.admin_token_file) == mode(again.path / "passwords.json") == 0o600
        assert mode(again.path) == 0o700


def test_a_directory_in_use_names_its_process(tmp_path: Path) -> None:
    with DataDirectory(tmp_path), pytest.raises(Failure, match=r"is in use by process \d+"):
        DataDirectory(tmp_path).__enter__()


def test_data_of_another_release_is_refused(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("7\n")
    with pytest.raises(Failure, match="holds data of layout 7"), DataDirectory(tmp_path):
        pass
    (tmp_path / "version").write_text("1\n")
    with DataDirectory(tmp_path):
        pass


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="cannot be written"), DataDirectory(tmp_path / "file" / "data"):
        pass


def test_up_json_lives_as_long_as_the_platform(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as data:
        data.publish({"http": "http://127.0.0.1:8002"})
        assert json.loads((tmp_path / "up.json").read_text()) == {"http": "http://127.0.0.1:8002"}
    assert not (tmp_path / "up.json").exists()
