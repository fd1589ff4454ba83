"""Writes ``requirements.lock`` from the dependencies of every package and ``requirements-dev.in``.

The packages of this repository are left out, so that no index is ever asked for their names.
"""

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.environment import LOCK, ROOT, packages

__all__ = ["declared", "main"]

DEV = "requirements-dev.in"


def declared(root: Path) -> dict[str, list[Requirement]]:
    """The third-party requirements of each input file, extras included, by the file's path below ``root``."""
    found: dict[str, list[Requirement]] = {}
    own: set[str] = set()
    for package in packages(root):
        file = package / "pyproject.toml"
        project = tomllib.loads(file.read_text())["project"]
        own.add(canonicalize_name(project["name"]))
        groups = [project.get("dependencies", []), *project.get("optional-dependencies", {}).values()]
        found[str(file.relative_to(root))] = [Requirement(line) for group in groups for line in group]
    lines = (line.partition("#")[0].strip() for line in (root / DEV).read_text().splitlines())
    found[DEV] = [Requirement(line) for line in lines if line]
    return {file: [one for one in wants if canonicalize_name(one.name) not in own] for file, wants in found.items()}


def main(arguments: Sequence[str]) -> int:
    """Resolve anew for Python >= 3.11; pins that still fit stay unless ``--upgrade`` is among the arguments."""
    requirements = sorted({str(requirement) for wants in declared(ROOT).values() for requirement in wants})
    command = ["uv", "pip", "compile", "-", "--output-file", LOCK, "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-annotate", "--custom-compile-command", "./task lock"]
    return subprocess.run([*command, *arguments], cwd=ROOT, input="\n".join(requirements), text=True).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
