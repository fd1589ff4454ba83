"""Checks that no other linter has: names that must not be committed, and lists that a new package must join.

A committed file names no host of a package registry and no absolute path of somebody's machine: each would make a build
or a test depend on one place.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.utils import canonicalize_name

from tools.environment import LOCK, ROOT, packages
from tools.lock import declared

__all__ = ["forgotten_packages", "main", "names_of_places", "tracked", "unlocked"]

# Each cut in two, so that this file passes its own check.
_REGISTRIES = """
    py|pi.org python|hosted.org ana|conda.org cra|tes.io ruby|gems.org registry.n|pmjs.org registry.yarn|pkg.com
    proxy.go|lang.org repo.maven.ap|ache.org dl-cdn.alpine|linux.org deb.deb|ian.org security.deb|ian.org
    archive.ubu|ntu.com
"""
_HOST = "|".join(re.escape(name) for name in _REGISTRIES.replace("|", "").split())
# Every index has its pages below /simple, whatever its host.
_REGISTRY = re.compile(rf"\b(?:{_HOST})\b|\b\w+://[^\s\"'<>]+/simple(?![\w-])", re.IGNORECASE)
# A path starts where no name, variable, placeholder or longer path goes before it: not in `$HOME/work`, not in an URL.
_PATH = re.compile(
    r"(?<![\w.~/$%{}<>*?+-])(?:\w+:///?)?"
    r"(?:/(?:home|Users)/(?P<user>\w[\w.-]*)|/(?:root|work|farm)(?![\w-])|/(?:private/)?var/folders\b)"
    r"|\b[A-Za-z]:\\{1,2}Users\\{1,2}\w"
)
# Homes of the users that images run as: the same on every machine.
_IMAGE_USERS = frozenset({"app", "nonroot", "sluice"})


def names_of_places(text: str) -> Iterator[tuple[int, str]]:
    """Find hosts of package registries and absolute paths of a machine: the line's number from 1, and what it names."""
    for number, line in enumerate(text.splitlines(), start=1):
        for found in _REGISTRY.finditer(line):
            yield number, f"host of a package registry: {found.group()}"
        for found in _PATH.finditer(line):
            if found["user"] not in _IMAGE_USERS:
                yield number, f"absolute path of a machine: {found.group()}"


def tracked(root: Path) -> Iterator[Path]:
    """Every tracked file, and every new one that is not ignored, that still exists."""
    # A checkout that belongs to another user (a mounted one, in a container) is refused by git otherwise.
    command = ["git", "-c", f"safe.directory={root}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True).stdout
    paths = (root / name.decode() for name in sorted(set(listed.split(b"\0"))) if name)
    return (path for path in paths if path.is_symlink() or path.is_file())


def _places(root: Path, files: Iterable[Path]) -> Iterator[str]:
    for path in files:
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        if b"\0" not in content[:8192]:
            for number, what in names_of_places(content.decode(errors="replace")):
                yield f"{path.relative_to(root)}:{number}: {what}"


def forgotten_packages(root: Path) -> Iterator[str]:
    """Packages that a list in the root's ``pyproject.toml`` leaves out: mypy or import-linter would not see them."""
    tools = tomllib.loads((root / "pyproject.toml").read_text())["tool"]
    for package in packages(root):
        source = f"{package.relative_to(root)}/src"
        if f"$MYPY_CONFIG_FILE_DIR/{source}" not in tools["mypy"]["mypy_path"]:
            yield f"pyproject.toml: tool.mypy.mypy_path lacks {source}"
        for module in sorted(path.parent.name for path in (root / source).glob("*/__init__.py")):
            if module not in tools["importlinter"]["root_packages"]:
                yield f"pyproject.toml: tool.importlinter.root_packages lacks {module}"
            for contract in tools["importlinter"]["contracts"] if package.parent.name == "services" else ():
                listed = contract.get("containers") or contract.get("layers")
                if listed and module not in re.findall(r"\w+", " ".join(listed)):
                    yield f"pyproject.toml: import contract {contract['name']!r} lacks {module}"


def unlocked(root: Path) -> Iterator[str]:
    """Declared dependencies that the lock does not hold in a version that fits."""
    pins = re.findall(r"^([\w.-]+)==([^\s;\\]+)", (root / LOCK).read_text(), re.MULTILINE)
    for file, requirements in declared(root).items():
        for wanted in requirements:
            versions = [version for name, version in pins if name == canonicalize_name(wanted.name)]
            if not any(wanted.specifier.contains(version, prereleases=True) for version in versions):
                yield f"{file}: {wanted} is not in {LOCK}; ./task lock"


def main() -> int:
    """Print every finding as ``file:line: what``; 1 when there is one."""
    findings = [*_places(ROOT, tracked(ROOT)), *forgotten_packages(ROOT), *unlocked(ROOT)]
    for finding in findings:
        print(finding)
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
