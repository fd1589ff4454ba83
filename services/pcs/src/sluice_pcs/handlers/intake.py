"""What is done to many data sets or configurations at once, and intake of those from outside (contract 10.2, 10.3)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC
from typing import Any

from sluice_core.audit import note
from sluice_core.auth import Identity, Scope
from sluice_core.rest import ApiError, Choice, Endpoint, Field, FieldError, Integer, Reply, Request, Text
from sluice_pcs.handlers.answers import document
from sluice_pcs.service.intake import Intake, Requestors

__all__ = ["endpoints"]

Handler = Callable[[Request], Awaitable[Reply]]

MOST = 1000
MOST_REQUESTORS = 100
NAME = Text("name", max_length=255)
COMMENT = Text("comment", max_length=2000)
STATE = Choice("state", ("continue", "hold", "final"))
REPLACED_BY = Text("replaced_by", blank=True, max_length=255)
CONFIG = Text("config", max_length=16)
REQUESTOR = Text("requestors", max_length=100)
EVENTS = Integer("expected_events", bits=64, minimum=0, null=True)
SOURCE = Choice("source", ("included", "requested", "derived"), blank=True)
KINDS = Choice("source_kind", ("csv_manifest", "path", "url", "rucio_did", "file_list"))
# With what an absent one is.
TAKEN: Sequence[tuple[Field, Any]] = (
    (KINDS, "csv_manifest"),
    (Text("scope", max_length=100), "group.EIC.evgen"),
    (Text("stage", max_length=50), "evgen"),
    (Text("detector_version", blank=True, max_length=50), ""),
    (Text("detector_config", blank=True, max_length=100), ""),
    *(
        (Text(f"{kind}_tag", blank=True, max_length=10), "")
        for kind in ("physics", "evgen", "simu", "reco", "background")
    ),
    (Text("description", blank=True), ""),
)
PLACE = Text("source_location", max_length=2000)


def endpoints(intake: Intake, requestors: Requestors) -> tuple[Endpoint, ...]:
    """Return the four verbs."""

    async def propagate(request: Request) -> Reply:
        data = await _object(request)
        names = _list(data, "names")
        report = await intake.propagate(
            [_read(NAME, each) for each in names],
            _read(STATE, data.get("state")),
            _read(COMMENT, data.get("comment")),
            _read(REPLACED_BY, data.get("replaced_by", "")),
            _caller(request),
        )
        return Reply(200, report)

    async def expect(request: Request) -> Reply:
        data = await _object(request)
        entries = []
        for each in _list(data, "entries"):
            if not isinstance(each, dict):
                raise ApiError(400, {"detail": "entries must be a list of objects."})
            entries.append(
                {
                    "name": _read(NAME, each.get("name")),
                    "expected_events": _read(EVENTS, each.get("expected_events")),
                    "source": _read(SOURCE, each.get("source", "")),
                }
            )
        return Reply(200, await intake.expect(entries, _read(COMMENT, data.get("comment")), _caller(request)))

    async def ask(request: Request) -> Reply:
        data = await _object(request)
        entries = {}
        for each in _list(data, "entries"):
            if not isinstance(each, dict) or not isinstance(each.get("requestors"), list):
                raise ApiError(400, {"detail": "entries must be a list of objects with requestors, a list."})
            if len(each["requestors"]) > MOST_REQUESTORS:
                raise ApiError(400, {"detail": f"A configuration has no more than {MOST_REQUESTORS} requestors."})
            entries[_read(CONFIG, each.get("config"))] = [_read(REQUESTOR, name) for name in each["requestors"]]
        return Reply(200, await requestors.replace(entries, _read(COMMENT, data.get("comment")), _caller(request)))

    async def take(request: Request) -> Reply:
        data = await _object(request)
        if not data.get("source_location"):
            raise ApiError(400, {"detail": "source_location is required"})
        given = {field.name: _read(field, data.get(field.name, absent)) for field, absent in TAKEN}
        given["source_location"] = _read(PLACE, data["source_location"])
        row, created = await intake.take(given, _caller(request))
        note().key = str(row["id"])
        return Reply(201 if created else 200, row)

    def post(
        name: str, handler: Handler, summary: str, properties: Mapping[str, Any], answers: Mapping[str, str]
    ) -> Endpoint:
        described = document(
            name.partition("/")[0],
            name.replace("-", "_").replace("/", "_"),
            summary,
            {**answers, "400": "Bad values", "403": "Somebody else's, or no right"},
            body={"type": "object", "properties": dict(properties)},
        )
        path = f"/pcs/api/{name}/"
        return Endpoint(path, {"POST": handler}, auth="session", scope=Scope.PCS_WRITE, openapi={"post": described})

    texts = {"type": "array", "items": {"type": "string"}, "maxItems": MOST}
    entry = {"type": "object", "properties": {each.name: each.schema() for each in (NAME, EVENTS, SOURCE)}}
    done = {"200": "Names that changed, did not, and are unknown"}
    names = {"type": "array", "items": REQUESTOR.schema(), "maxItems": MOST_REQUESTORS}
    asked = {"type": "object", "properties": {"config": CONFIG.schema(), "requestors": names}}
    return (
        post(
            "datasets/propagation",
            propagate,
            "Say whether datasets go on in the next campaign",
            {"names": texts, **{each.name: each.schema() for each in (STATE, COMMENT, REPLACED_BY)}},
            done,
        ),
        post(
            "datasets/expected-events",
            expect,
            "Say how many events are expected of datasets",
            {"entries": {"type": "array", "items": entry, "maxItems": MOST}, "comment": COMMENT.schema()},
            done,
        ),
        post(
            "physics-configs/requestors",
            ask,
            "Say who asked for physics configurations",
            {"entries": {"type": "array", "items": asked, "maxItems": MOST}, "comment": COMMENT.schema()},
            done,
        ),
        post(
            "datasets/intake",
            take,
            "The dataset whose files are at a place, made when there is none",
            {each.name: each.schema() for each in (PLACE, *(field for field, _ in TAKEN))},
            {"200": "It was there", "201": "It is new", "409": "It was composed for another place"},
        ),
    )


async def _object(request: Request) -> Mapping[str, Any]:
    data = await request.data()
    if not isinstance(data, dict):
        raise ApiError(400, {"detail": "The body must be an object."})
    return data


def _caller(request: Request) -> Identity:
    assert request.identity is not None
    return request.identity


def _list(data: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = data.get(name)
    if not isinstance(found, list) or not found or len(found) > MOST:
        raise ApiError(400, {"detail": f"{name} must be a list of 1 to {MOST}."})
    return found


def _read(field: Field, raw: Any) -> Any:
    try:
        return field.parse(raw, UTC)
    except FieldError as exc:
        raise ApiError(400, {field.name: list(exc.args)}) from None
