"""Bodies of ``POST /api/logs/``: unpacked within bounds, and split into records."""

import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import msgspec
import zstandard

from sluice_core.rest import Invalid
from sluice_core.rest.body import parse
from sluice_core.rest.errors import ApiError
from sluice_logs.records import JSON, Reader, Record

__all__ = ["BATCH_LIMIT", "MOST", "NDJSON", "RECORD_LIMIT", "Batch", "is_batch", "read_batch", "too_large", "unpack"]

# Bytes, unpacked (decision 3).
RECORD_LIMIT = 4 * 2**20
BATCH_LIMIT = 16 * 2**20
MOST = 10_000
NDJSON = "application/x-ndjson"
# What decoders of zstd shall support (RFC 8878, 3.1.1.1.2); a frame may ask for gigabytes.
ZSTD_WINDOW = 8 * 2**20
PIECE = 2**17

Rejected = dict[int, dict[str, list[str]]]


class Batch(msgspec.Struct):
    """The records of one body.

    Attributes
    ----------
    records
        Those that are sound, with their places in the body.
    rejected
        Errors of the others, by place.
    """

    records: list[tuple[int, Record]]
    rejected: Rejected


def unpack(encoding: str, body: bytes) -> bytes:
    """Undo a content encoding.

    Raises
    ------
    ApiError
        400: it is not of that encoding, or ends too early; 413: more than `BATCH_LIMIT`; 415: another encoding.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    try:
        if name in ("gzip", "x-gzip"):
            return _gunzip(body)
        if name == "zstd":
            return _unzstd(body)
    except (zlib.error, zstandard.ZstdError, EOFError):
        raise ApiError(400, {"detail": f"The body is not whole {name} data."}) from None
    raise ApiError(415, {"detail": f'Unsupported content encoding "{encoding}" in request.'})


def is_batch(media: str, body: bytes) -> bool:
    """Tell whether a body holds many records, by its type or its first character."""
    return media == NDJSON or (media == JSON and body.lstrip()[:1] == b"[")


def read_batch(reader: Reader, media: str, body: bytes) -> Batch:
    """Read the records of a body; blocks for as long as a large one takes.

    Raises
    ------
    ApiError
        400: it is no JSON array; 413: it holds more than `MOST` records.
    """
    found = Batch([], {})
    pieces = _lines(body) if media == NDJSON else _items(body)
    for at, piece in enumerate(pieces):
        if at == MOST:
            raise ApiError(413, {"detail": f"A batch has no more than {MOST} records."})
        if isinstance(piece, bytes) and len(piece) > RECORD_LIMIT:
            found.rejected[at] = {"non_field_errors": [f"A record has no more than {RECORD_LIMIT} bytes."]}
            continue
        try:
            record = reader.read(piece) if isinstance(piece, bytes) else reader.take(piece)
            found.records.append((at, record))
        except Invalid as exc:
            found.rejected[at] = exc.errors
        except ApiError as exc:
            found.rejected[at] = {"non_field_errors": [exc.content["detail"]]}
    return found


def too_large(limit: int) -> ApiError:
    """Return the refusal of a body that is larger than this."""
    return ApiError(413, {"detail": f"Request body exceeds {limit} bytes."}, {"Connection": "close"})


def _lines(body: bytes) -> Iterator[bytes]:
    for line in BytesIO(body):
        if stripped := line.strip():
            yield stripped


def _items(body: bytes) -> Iterator[Any]:
    try:
        # Each item as it stands, so that each is read on the quick way.
        yield from map(bytes, msgspec.json.decode(body, type=list[msgspec.Raw]))
    except (msgspec.MsgspecError, RecursionError, ValueError):
        yield from parse(JSON, body)


def _gunzip(body: bytes) -> bytes:
    unpacked = bytearray()
    while body:
        member = zlib.decompressobj(wbits=31)
        unpacked += member.decompress(body, BATCH_LIMIT + 1 - len(unpacked))
        if len(unpacked) > BATCH_LIMIT:
            raise too_large(BATCH_LIMIT)
        if not member.eof:
            raise EOFError
        body = member.unused_data
    return bytes(unpacked)


def _unzstd(body: bytes) -> bytes:
    decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
    with decoder.stream_reader(body, read_across_frames=False) as reader:
        size = 0
        # Only counted: the reader cannot tell a whole frame from one that was cut off, and what can knows no limit.
        while piece := reader.read(PIECE):
            size += len(piece)
            if size > BATCH_LIMIT:
                raise too_large(BATCH_LIMIT)
    whole = decoder.decompressobj()
    unpacked = whole.decompress(body)
    if not whole.eof or whole.unused_data:
        raise EOFError
    return unpacked
