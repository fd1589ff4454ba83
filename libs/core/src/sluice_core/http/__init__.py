"""The shell around every HTTP door: envelope, base path, body limits; admin port and server in their own modules."""

from sluice_core.http.envelope import Envelope
from sluice_core.http.limits import BODY_LIMIT, BodyLimit, BodyTooLarge, read_body
from sluice_core.http.pages import error_page
from sluice_core.http.prefix import BasePath, absolute_url
from sluice_core.http.source import client_address

__all__ = [
    "BODY_LIMIT",
    "BasePath",
    "BodyLimit",
    "BodyTooLarge",
    "Envelope",
    "absolute_url",
    "client_address",
    "error_page",
    "read_body",
]
