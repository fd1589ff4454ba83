"""Bodies: JSON, forms and multipart, each with the refusals of contract 2.2 and 18.11."""

import json
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sluice_core.rest.errors import ApiError, Invalid
from sluice_core.rest.validate import Form

__all__ = ["MEDIA_TYPES", "parse"]

MEDIA_TYPES = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")
MOST_FIELDS = 1000


def parse(content_type: str, body: bytes) -> Any:
    """Parse a body.

    Parameters
    ----------
    content_type
        The header, parameters included.
    body
        All of it.

    Returns
    -------
    Any
        What the JSON says; a `Form` for forms; an empty dict for an empty body of any type.

    Raises
    ------
    ApiError
        415 for another type, 400 for a body that is not of its type.
    """
    if not body:
        return {}
    media, options = parse_options_header(content_type)
    if media == b"application/json":
        return _json(body)
    if media == b"application/x-www-form-urlencoded":
        return _form(body)
    if media == b"multipart/form-data":
        return _multipart(options.get(b"boundary", b""), body)
    raise ApiError(415, {"detail": f'Unsupported media type "{content_type}" in request.'})


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"Out of range float values are not JSON compliant: '{name}'")


# Made once: json.loads makes one a call where it is told anything.
_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def _json(body: bytes) -> Any:
    try:
        return _decoder.decode(body.decode())
    except RecursionError:
        raise ApiError(400, {"detail": "JSON parse error - nested too deeply"}) from None
    except ValueError as exc:
        raise ApiError(400, {"detail": f"JSON parse error - {exc}"}) from None


def _form(body: bytes) -> Form:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except UnicodeDecodeError:
        raise ApiError(400, {"detail": "Form parse error - the body is not UTF-8"}) from None
    except ValueError:
        raise Invalid({"non_field_errors": [f"A form has no more than {MOST_FIELDS} fields."]}) from None
    return Form(pairs)


def _multipart(boundary: bytes, body: bytes) -> Form:
    form = _Parts()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": form.begin,
                "on_header_field": form.header_name,
                "on_header_value": form.header_value,
                "on_header_end": form.header_end,
                "on_headers_finished": form.headers_end,
                "on_part_data": form.data,
                "on_part_end": form.end,
                "on_end": form.finish,
            },
        )
        parser.write(body)
        parser.finalize()
        if not form.finished:
            raise FormParserError("the closing boundary is missing")
    except (FormParserError, UnicodeDecodeError) as exc:
        raise ApiError(400, {"detail": f"Multipart form parse error - {exc}"}) from None
    return form.fields


class _Parts:
    """Collects the parts of one multipart body."""

    def __init__(self) -> None:
        self.fields = Form()
        self.finished = False
        self._count = 0
        self._name = b""
        self._value = b""
        self._header: list[bytes] = []
        self._disposition = b""

    def begin(self) -> None:
        self._count += 1
        if self._count > MOST_FIELDS:
            raise FormParserError(f"more than {MOST_FIELDS} parts")
        self._disposition, self._value = b"", b""
        self._header = [b"", b""]

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def header_end(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]
        self._header = [b"", b""]

    def headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise FormParserError("a part has no name")
        self._name = options[b"name"]
        self._is_file = b"filename" in options
        self._chunks: list[bytes] = []

    def data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def end(self) -> None:
        # No field holds a file; an empty list is refused by each of them with its own words.
        self.fields[self._name.decode()] = [] if self._is_file else b"".join(self._chunks).decode()

    def finish(self) -> None:
        self.finished = True
