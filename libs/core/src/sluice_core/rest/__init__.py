"""The wire format of the original, once: declared resources and endpoints behind one door (contract 2)."""

from sluice_core.rest.door import Door
from sluice_core.rest.errors import ApiError, Invalid, denied
from sluice_core.rest.fields import (
    Boolean,
    Choice,
    DateTime,
    Derived,
    Field,
    FieldError,
    Float,
    ForeignKey,
    Integer,
    Ip,
    Json,
    Text,
    Url,
    Uuid,
)
from sluice_core.rest.request import Reply, Request
from sluice_core.rest.resource import Attempt, Change, Endpoint, Filter, Lookup, Resource

__all__ = [
    "ApiError",
    "Attempt",
    "Boolean",
    "Change",
    "Choice",
    "DateTime",
    "Derived",
    "Door",
    "Endpoint",
    "Field",
    "FieldError",
    "Filter",
    "Float",
    "ForeignKey",
    "Integer",
    "Invalid",
    "Ip",
    "Json",
    "Lookup",
    "Reply",
    "Request",
    "Resource",
    "Text",
    "Url",
    "Uuid",
    "denied",
]
