"""Makes ``.venv``: the locked third-party packages, and the packages of this repository as editable ones.

Started by ``./task`` with whatever Python >= 3.11 the machine has, so it imports the standard library alone.
"""

import argparse
import fcntl
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["main", "packages", "stamp_of", "wanted", "write_stamp"]

ROOT = Path(__file__).resolve().parent.parent
LOCK = "requirements.lock"


def packages(root: Path) -> list[Path]:
    """Every folder with a package of this repository, ``root`` excluded, in a stable order."""
    found = (
        path
        for pattern in ("clients/*", "libs/*", "services/*", "launcher")
        for path in root.glob(f"{pattern}/pyproject.toml")
    )
    return sorted(path.parent for path in found)


def wanted(root: Path) -> dict[str, str]:
    """What a finished ``.venv`` was made from, with the running interpreter as the one it was made by.

    Scripts in a virtual environment hold its absolute path, hence ``root``: a checkout that was moved is made again.
    """
    projects = hashlib.sha256()
    for package in packages(root):
        projects.update(str(package.relative_to(root)).encode() + b"\0")
        projects.update(hashlib.sha256((package / "pyproject.toml").read_bytes()).digest())
    return {
        "root": str(root),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "lock": hashlib.sha256((root / LOCK).read_bytes()).hexdigest(),
        "projects": projects.hexdigest(),
    }


def _stamp_file(root: Path) -> Path:
    return root / ".venv" / "stamp.json"


def stamp_of(root: Path) -> dict[str, str]:
    """What ``.venv`` was made from; empty when there is none, its making was interrupted or its Python is gone."""
    if not (root / ".venv/bin/python").exists():
        return {}
    try:
        stamp = json.loads(_stamp_file(root).read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(root: Path, stamp: Mapping[str, str]) -> None:
    """Say what ``.venv`` is made from, at once or not at all."""
    fresh = _stamp_file(root).with_suffix(".new")
    fresh.write_text(json.dumps(stamp, indent=1) + "\n")
    fresh.replace(_stamp_file(root))


def _say(sentence: str) -> None:
    print(f"task: {sentence}", file=sys.stderr, flush=True)


class _Maker:
    """One run of the work, under the lock whose descriptor its child processes inherit."""

    def __init__(self, root: Path, lock: int) -> None:
        self.root = root
        self.lock = lock
        self.venv = root / ".venv"

    def run(self, *command: str | Path) -> None:
        # A child that outlives a killed parent keeps the lock, so nobody clears .venv under it.
        subprocess.run(command, check=True, cwd=self.root, pass_fds=(self.lock,), stdin=subprocess.DEVNULL)

    def uv(self, *arguments: str | Path) -> None:
        self.run(self.venv / "bin/uv", "pip", "install", "--quiet", "--python", self.venv / "bin/python", *arguments)

    def create(self) -> None:
        _say(f"making .venv with Python {sys.version_info.major}.{sys.version_info.minor}; this needs a minute, once")
        _stamp_file(self.root).unlink(missing_ok=True)
        # The base interpreter, since the running one may be the very .venv that is cleared.
        self.run(getattr(sys, "_base_executable", sys.executable), "-m", "venv", "--clear", self.venv)

    def install_locked(self) -> None:
        """Install what the lock names; ``uv`` itself comes first, by pip, from its own entry there."""
        if not (self.venv / "bin/uv").exists():
            entry = re.search(r"^uv==.*(?:\n .*)*", (self.root / LOCK).read_text(), re.MULTILINE)
            if entry is None:
                raise SystemExit(f"task: {LOCK} has no entry for uv")
            first = self.venv / "uv.lock"
            first.write_text(entry.group() + "\n")
            pip = (self.venv / "bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
            self.run(*pip, "--no-deps", "--require-hashes", "--requirement", first)
        _say(f"installing {LOCK}")
        self.uv("--no-deps", "--require-hashes", "--requirement", LOCK)

    def install_packages(self) -> None:
        editable = [word for package in packages(self.root) for word in ("--editable", str(package))]
        self.uv("--no-deps", "--no-build-isolation", "--offline", *editable)


def bring_up_to_date(root: Path, lock: int) -> None:
    """Do what the stamp says is missing. An interrupted call leaves no stamp, and the next one starts anew."""
    want, have = wanted(root), stamp_of(root)
    if have == want:
        return
    make = _Maker(root, lock)
    if (have.get("root"), have.get("python")) != (want["root"], want["python"]):
        make.create()
        have = {}
    if have.get("lock") != want["lock"]:
        _stamp_file(root).unlink(missing_ok=True)
        make.install_locked()
    write_stamp(root, {key: value for key, value in want.items() if key != "projects"})
    make.install_packages()
    write_stamp(root, want)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when ``.venv`` is as the lock and the packages say, having made it so unless ``--check`` is given."""
    parser = argparse.ArgumentParser(description="Make .venv, or look whether it is up to date.")
    parser.add_argument("--check", action="store_true", help="only look: exit 1 when there is something to do")
    if parser.parse_args(arguments).check:
        return int(stamp_of(ROOT) != wanted(ROOT))
    try:
        with (ROOT / ".venv.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _say("another call is making .venv; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            bring_up_to_date(ROOT, file.fileno())
    except subprocess.CalledProcessError as failed:
        _say(f"could not make .venv: {Path(failed.cmd[0]).name} failed (see above)")
        return 1
    except OSError as failed:
        _say(f"could not make .venv: {failed}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
