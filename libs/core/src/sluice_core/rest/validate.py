"""From a parsed body to the columns that are written (contract 2.4, 18.3, 18.11)."""

import json
from collections.abc import Mapping
from datetime import tzinfo
from typing import Any

from sluice_core.rest.errors import Invalid
from sluice_core.rest.fields import Boolean, Field, FieldError, Json
from sluice_core.rest.resource import Resource

__all__ = ["Form", "changed", "created", "mapping"]

REQUIRED = "This field is required."
_ABSENT: Any = object()


class Form(dict[str, Any]):
    """A body that came from a form: all values are text, and what is absent has rules of its own."""


def mapping(data: Any) -> Mapping[str, Any]:
    """Insist on a JSON object.

    Raises
    ------
    Invalid
        It is something else (contract 18.3).
    """
    if isinstance(data, dict):
        return data
    if data is None:
        raise Invalid({"non_field_errors": ["No data provided"]})
    raise Invalid({"non_field_errors": [f"Invalid data. Expected a dictionary, but got {type(data).__name__}."]})


def created(resource: Resource, data: Mapping[str, Any], zone: tzinfo) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the columns of a new row, defaults included, and the errors of the fields that are wrong."""
    return _parse(resource, data, zone, partial=False, defaults=True)


def changed(
    resource: Resource, data: Mapping[str, Any], zone: tzinfo, *, partial: bool
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the columns that a PATCH (``partial``) or PUT writes, and the errors of the fields that are wrong."""
    return _parse(resource, data, zone, partial=partial, defaults=False)


def _parse(
    resource: Resource, data: Mapping[str, Any], zone: tzinfo, *, partial: bool, defaults: bool
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    values: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    form = isinstance(data, Form)
    for field, name, column, writable in resource.plan:
        if not writable:
            if defaults and field.default is not None:
                values[column] = field.initial()
            continue
        raw = data.get(name, _ABSENT)
        try:
            if form:
                raw = _from_form(field, raw, partial)
            if raw is not _ABSENT:
                values[column] = field.parse(raw, zone)
            elif field.required and not partial:
                errors[name] = [REQUIRED]
            elif defaults:
                values[column] = field.initial()
        except FieldError as exc:
            errors[name] = list(exc.args)
    return values, errors


def _from_form(field: Field, raw: Any, partial: bool) -> Any:
    """Apply the rules for forms of contract 18.11."""
    if raw is _ABSENT:
        if isinstance(field, Boolean) and not partial:
            return None if field.null else False
        return raw
    if isinstance(field, Json):
        try:
            return json.loads(raw)
        except (TypeError, ValueError, RecursionError):
            raise FieldError("Value must be valid JSON.") from None
    if raw == "":
        if field.null:
            return "" if field.blank else None
        if not field.required and not field.blank:
            return _ABSENT
    return raw
