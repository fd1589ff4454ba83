"""OpenAPI of all services, and AsyncAPI of those that have one, written from the code."""

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sluice.services import Installed
from sluice_core import openapi
from sluice_core.settings import Shared

__all__ = ["render", "stale", "write"]

MERGED_BY = "registry"
"""The service that shows the document of all; it is data of its package."""


def render(services: list[Installed], directory: Path) -> dict[Path, str]:
    """Return what each file should hold.

    Parameters
    ----------
    services
        Those that are wanted.
    directory
        Of the OpenAPI documents of the single services; the merged one belongs into the package that serves it, and
        AsyncAPI documents into the directory ``asyncapi`` beside this one.
    """
    documents = {service.name: _document(service) for service in services}
    files = {directory / f"{name}.json": _text(document) for name, document in documents.items()}
    for service in services:
        if find_spec(f"{service.package}.asyncapi") is not None:
            document = import_module(f"{service.package}.asyncapi").document()
            files[directory.with_name("asyncapi") / f"{service.name}.json"] = _text(document)
        if service.name == MERGED_BY:
            package = Path(import_module(service.package).__file__ or "").parent
            files[package / "openapi.json"] = _text(openapi.merge(documents))
    return files


def stale(files: dict[Path, str]) -> list[Path]:
    """Return the files that are missing or hold something else."""
    return [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def write(files: dict[Path, str]) -> list[Path]:
    """Write what is stale; return it."""
    changed = stale(files)
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], encoding="utf-8")
    return changed


def _document(service: Installed) -> dict[str, Any]:
    # Nothing connects; and what an environment says must not change what is committed.
    nowhere = service.settings(database_url="postgresql://localhost/none", shared=Shared.model_construct())
    document: dict[str, Any] = service.create_app(nowhere).openapi()
    return document


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
