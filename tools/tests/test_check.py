"""The check of committed files: what it refuses, and what it must let through."""

import subprocess
from pathlib import Path

import pytest

from tools import check

# Joined here, so that this file passes the check that it tests.
INDEX = "py" + "pi.org"
ROOT_HOME = "/ro" + "ot"
HOME = "/ho" + "me/"
WORK = "/wo" + "rk"


@pytest.mark.parametrize(
    "line",
    [
        f"--index-url https://{INDEX}/",
        f"see files.python{'hosted'}.org",
        f"RUN echo deb http://deb.{'debian'}.org/debian stable main",
        "index-url = https://mirror.example.com/repository/" + "simple/",
        f"cd {WORK}",
        f'data = "{WORK}/main"',
        f"PATH={ROOT_HOME}/.local/bin",
        f"cache:{ROOT_HOME}/.cache",
        f"-e file://{HOME}ada/sluice",
        f"open('{HOME}ada/x')",
        "/Us" + "ers/ada/x",
        "C:" + "\\Users\\ada",
        "/va" + "r/folders/zz/T",
    ],
)
def test_a_place_is_named_with_its_line(line: str) -> None:
    assert [number for number, _ in check.names_of_places(f"fine\n{line}\nfine\n")] == [2]


@pytest.mark.parametrize(
    "line",
    [
        f"$HOME{WORK}/x and ~{WORK} and ./src{WORK}",
        f"https://example.com{ROOT_HOME}/index.html",
        f"GET /api{WORK}/1",
        "/workers and /work-queue and /rootfs and /homes",
        f"{HOME}<you>/x, {HOME}$USER, {HOME}{{name}}",
        f"WORKDIR {HOME}nonroot",
        "mountPath: /var/lib/postgresql",
        "https://example.com/a-simple-page and http://localhost/simple-things",
        "numpy==2.0 --hash=sha256:00",
    ],
)
def test_what_only_looks_like_a_place_passes(line: str) -> None:
    assert list(check.names_of_places(line)) == []


def test_tracked_and_new_files_are_read_and_ignored_ones_are_not(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("ignored\n")
    for name in ("tracked", "new", "ignored", "gone"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("nowhere")
    subprocess.run(["git", "add", "tracked", "gone"], cwd=tmp_path, check=True)
    (tmp_path / "gone").unlink()
    assert [path.name for path in check.tracked(tmp_path)] == [".gitignore", "link", "new", "tracked"]


def workspace(root: Path, *, pins: str = "rich==15.0.0 \\\n", lists: bool = True) -> Path:
    package = root / "services" / "logs"
    (package / "src" / "sluice_logs").mkdir(parents=True)
    (package / "src" / "sluice_logs" / "__init__.py").touch()
    (package / "pyproject.toml").write_text(
        '[project]\nname = "sluice-logs"\ndependencies = ["rich>=14", "Sluice.Logs"]\n'
    )
    (root / "requirements-dev.in").write_text("# nothing\n")
    (root / "requirements.lock").write_text(pins)
    path, module = ("$MYPY_CONFIG_FILE_DIR/services/logs/src", "sluice_logs") if lists else ("", "")
    (root / "pyproject.toml").write_text(
        f"""
        [tool.mypy]
        mypy_path = ["{path}"]
        [tool.importlinter]
        root_packages = ["{module}"]
        contracts = [
            {{name = "apart", type = "layers", layers = ["sluice | {module}", "sluice_core"]}},
            {{name = "inside", type = "layers", containers = ["{module}"], layers = ["service"]}},
            {{name = "other", type = "forbidden"}},
        ]
        """
    )
    return root


def test_a_package_that_is_in_every_list_passes(tmp_path: Path) -> None:
    root = workspace(tmp_path)
    assert list(check.forgotten_packages(root)) == []
    assert list(check.unlocked(root)) == []


def test_a_new_package_is_missed_in_the_lists(tmp_path: Path) -> None:
    findings = list(check.forgotten_packages(workspace(tmp_path, lists=False)))
    assert findings == [
        "pyproject.toml: tool.mypy.mypy_path lacks services/logs/src",
        "pyproject.toml: tool.importlinter.root_packages lacks sluice_logs",
        "pyproject.toml: import contract 'apart' lacks sluice_logs",
        "pyproject.toml: import contract 'inside' lacks sluice_logs",
    ]


@pytest.mark.parametrize("pins", ["", "rich==13.0.0\n", "rich-click==15.0.0\n"])
def test_a_dependency_that_the_lock_lacks_is_named(tmp_path: Path, pins: str) -> None:
    (finding,) = check.unlocked(workspace(tmp_path, pins=pins))
    assert finding.startswith("services/logs/pyproject.toml: rich>=14")
