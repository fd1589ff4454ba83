"""Writes docs/settings.md from the settings models, so that every variable is described, once."""

import sys
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from importlib.metadata import entry_points

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from sluice_core.settings import ServiceSettings, Shared, duration_text
from tools.environment import ROOT

__all__ = ["PAGE", "document", "main"]

PAGE = ROOT / "docs" / "settings.md"

HEAD = """# Settings

Environment variables, read once at start. Durations are written `90s`, `5m`, `2d`. A secret may lie in a file instead:
the variable with `_FILE` behind its name holds the path. Written by `./task openapi` from the code.
"""


def document() -> str:
    """Return the page."""
    services = sorted(entry_points(group="sluice.services").names)
    parts = [HEAD, _section("Every process", Shared, "SLUICE_")]
    shared = _section("Each service", ServiceSettings, "SLUICE_<SERVICE>_", leave_out={"shared"})
    parts.append(shared.replace("\n\n", f"\n\n`<SERVICE>` is one of {', '.join(map(str.upper, services))}.\n\n", 1))
    for name in services:
        model = import_module(f"sluice_{name}.settings").Settings
        own = _section(name, model, f"SLUICE_{name.upper()}_", leave_out=set(ServiceSettings.model_fields))
        if own.count("\n| `"):
            parts.append(own)
    return "\n".join(parts)


def main() -> int:
    """Write the page; with ``--check`` only say whether it is stale."""
    wanted = document()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == wanted:
        return 0
    sys.stderr.write("docs/settings.md is stale: ./task openapi\n")
    return 1


def _section(title: str, model: type[BaseSettings], prefix: str, leave_out: set[str] | None = None) -> str:
    return "\n".join(
        [f"## {title}", "", "| variable | default | |", "|---|---|---|", *_rows(model, prefix, leave_out), ""]
    )


def _rows(model: type[BaseSettings], prefix: str, leave_out: set[str] | None) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name not in (leave_out or ()):
            variables = " or ".join(f"`{each}`" for each in _variables(field, prefix + name.upper()))
            yield f"| {variables} | {_default(field)} | {field.description} |"


def _variables(field: FieldInfo, usual: str) -> list[str]:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [alias if isinstance(alias, str) else usual]


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    if isinstance(value, timedelta):
        value = duration_text(value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.exit(main())
