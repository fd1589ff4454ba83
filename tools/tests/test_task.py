"""The wrapper: what reaches the runner, and when .venv is made again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import environment

ECHO = '#!/bin/sh\nfor word in "$(basename "$0")" "$@"; do printf "%s\\n" "$word"; done\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose .venv is finished, with a runner and a platform that only print what they were given."""
    root = tmp_path / "a checkout"
    for name in ("task", "tools/environment.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((environment.ROOT / name).read_bytes())
    (root / "task").chmod(0o755)
    (root / "requirements.lock").write_text("nothing==1\n")
    (root / "launcher").mkdir()
    (root / "launcher" / "pyproject.toml").touch()
    binaries = root / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    for name in ("task", "sluice"):
        (binaries / name).write_text(ECHO)
        (binaries / name).chmod(0o755)
    environment.write_stamp(root, environment.wanted(root))
    return root


def call(root: Path, *arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    return subprocess.run(
        [root / "task", *arguments], cwd=cwd or root, env=clean | variables, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("given", "reaches"),
    [
        ([], []),
        (["--list"], ["--list"]),
        (["lint"], ["lint"]),
        (["test", "-k", "a or b"], ["test", "--", "-k", "a or b"]),
        (["test", "--", "-k", "x"], ["test", "--", "-k", "x"]),
        (["-v", "WORKERS=2", "test", "-x"], ["-v", "WORKERS=2", "test", "--", "-x"]),
        (["test", "WORKERS=2", "-x", "A=1"], ["test", "WORKERS=2", "--", "-x", "A=1"]),
        (["bench:registry", "--agents=200"], ["bench:registry", "--", "--agents=200"]),
        (["--dry", "up", "--data", "X"], ["--dry", "up", "--", "--data", "X"]),
    ],
)
def test_arguments_after_the_name_reach_the_task_and_others_the_runner(
    checkout: Path, given: list[str], reaches: list[str]
) -> None:
    done = call(checkout, *given)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["task", "--exit-code", "--taskfile", f"{checkout}/Taskfile.yml", *reaches]


def test_up_is_the_platform_itself_so_that_a_signal_reaches_it(checkout: Path) -> None:
    assert call(checkout, "up", "--data", "a b").stdout.splitlines() == ["sluice", "up", "--data", "a b"]


def test_it_works_from_another_folder_and_by_a_link(checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere"
    link.symlink_to(checkout / "task")
    done = subprocess.run([link, "lint"], cwd="/", capture_output=True, text=True, timeout=60)
    assert f"{checkout}/Taskfile.yml" in done.stdout.splitlines()


@pytest.mark.parametrize("changed", ["requirements.lock", "launcher/pyproject.toml"])
def test_a_change_of_what_it_is_made_from_makes_the_environment_stale(checkout: Path, changed: str) -> None:
    (checkout / changed).write_text("# another\n")
    assert environment.stamp_of(checkout) != environment.wanted(checkout)


def test_a_new_package_and_a_moved_checkout_make_the_environment_stale(checkout: Path, tmp_path: Path) -> None:
    moved = checkout.rename(tmp_path / "moved")
    assert environment.stamp_of(moved) != environment.wanted(moved)
    environment.write_stamp(moved, environment.wanted(moved))
    (moved / "services" / "new").mkdir(parents=True)
    (moved / "services" / "new" / "pyproject.toml").touch()
    assert environment.stamp_of(moved) != environment.wanted(moved)


def test_an_environment_whose_python_was_removed_counts_as_none(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("no/such/python")
    assert environment.stamp_of(checkout) == {}


@pytest.mark.parametrize("content", ["", "[]", '{"root": '])
def test_a_broken_stamp_counts_as_none(checkout: Path, content: str) -> None:
    (checkout / ".venv" / "stamp.json").write_text(content)
    assert environment.stamp_of(checkout) == {}


def test_without_a_fit_python_one_sentence_says_so(checkout: Path) -> None:
    done = call(checkout, "lint", PYTHON="/bin/false")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "task: PYTHON=/bin/false is not a Python >= 3.11 with the modules venv and ensurepip."
    ]


def test_a_failure_to_make_it_is_one_sentence_and_leaves_no_finished_stamp(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "uv").symlink_to("/bin/false")
    stamp = environment.stamp_of(checkout) | {"lock": "old"}
    environment.write_stamp(checkout, stamp)
    done = call(checkout, "lint")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "task: could not make .venv: uv failed (see above)"
    assert environment.stamp_of(checkout) == {}


def test_parallel_calls_make_the_environment_once(checkout: Path) -> None:
    log = checkout / "calls"
    uv = checkout / ".venv" / "bin" / "uv"
    uv.write_text(f'#!/bin/sh\necho "$@" >> "{log}"\n')
    uv.chmod(0o755)
    environment.write_stamp(checkout, environment.stamp_of(checkout) | {"projects": "old"})
    calls = [subprocess.Popen([checkout / "task", "lint"], stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [one.wait(timeout=60) for one in calls] == [0, 0, 0, 0]
    assert len(log.read_text().splitlines()) == 1
    assert json.loads((checkout / ".venv" / "stamp.json").read_text()) == environment.wanted(checkout)
