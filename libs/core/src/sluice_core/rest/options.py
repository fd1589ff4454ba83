"""What OPTIONS says (contract 2.4)."""

import re
from typing import Any

from sluice_core.rest.body import MEDIA_TYPES
from sluice_core.rest.fields import Choice, Field
from sluice_core.rest.resource import Resource

__all__ = ["describe", "describe_resource"]


def describe(name: str, description: str = "", actions: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the metadata object of a view."""
    found: dict[str, Any] = {
        "name": name,
        "description": description,
        "renders": ["application/json", "text/html"],
        "parses": list(MEDIA_TYPES),
    }
    if actions:
        found["actions"] = actions
    return found


def describe_resource(resource: Resource, *, detail: bool, writes: bool) -> dict[str, Any]:
    """Return the metadata object of a list or of one row; ``actions`` only for those who may write."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", resource.model)
    actions = {"PUT" if detail else "POST": {each.name: _field(each) for each in resource.fields}} if writes else None
    return describe(f"{words} {'Instance' if detail else 'List'}", resource.description, actions)


def _field(field: Field) -> dict[str, Any]:
    words = field.name.replace("_", " ")
    found: dict[str, Any] = {
        "type": field.option_type,
        "required": field.required,
        "read_only": not field.writable,
        "label": words.upper() if words == "id" else words[:1].upper() + words[1:],
    }
    if field.help:
        found["help_text"] = field.help
    if field.writable:
        found.update(field.limits())
        if isinstance(field, Choice):
            found["choices"] = field.shown
    return found
