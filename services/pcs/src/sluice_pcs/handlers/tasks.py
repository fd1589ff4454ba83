"""Production tasks: commands and verbs (contract 10.4 to 10.6)."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from typing import Any

import msgspec

from sluice_core.audit import note
from sluice_core.auth import Scope
from sluice_core.rest import ApiError, Endpoint, FieldError, Reply, Request, Text
from sluice_pcs.fields import Object
from sluice_pcs.handlers.answers import document
from sluice_pcs.service.catalogue import Catalogue
from sluice_pcs.service.submissions import Submissions
from sluice_pcs.service.tasks import FORMATS, MOST_DIDS, Tasks

__all__ = ["endpoints"]

PATH = "/pcs/api/prod-tasks/"
ONE = f"{PATH}{{name}}/"
TEXT: Mapping[str, Any] = {"type": "string"}
NAME: Mapping[str, Any] = {"type": "string", "maxLength": 255}
TASK = {"$ref": "#/components/schemas/ProdTask"}
REFUSALS = {
    "400": "Bad values, or it cannot be done now",
    "403": "Somebody else's, or no right",
    "404": "No such task",
    "409": "Several are called so, or it was done already",
}
CATALOGUE = tuple(
    f"public_catalog_{each}"
    for each in ("repo", "issue", "pr", "row_index", "csv_path", "row_key", "page_url", "commit_sha")
)
OVERRIDES = Object("overrides")
TAKEN = (
    Text("name", blank=True, max_length=255),
    Text("dataset", blank=True, max_length=400),
    Text("prod_config", blank=True, max_length=200),
    Text("description", blank=True),
    Text("csv_file", blank=True, max_length=500),
    Text("requestor", blank=True, max_length=100),
)
Handler = Callable[[Request], Awaitable[Reply]]


def endpoints(tasks: Tasks, submissions: Submissions, catalogue: Catalogue) -> tuple[Endpoint, ...]:
    """Return what tasks have beside their resource."""

    async def command(request: Request) -> Reply:
        query = request.query
        if not query.get("name"):
            raise ApiError(400, {"detail": "Missing ?name="})
        fmt = query.get("fmt", "")
        if fmt not in FORMATS:
            raise ApiError(400, {"detail": f"fmt must be one of: {', '.join(FORMATS)}"})
        residual = query.get("residual") == "1"
        attempt = query.get("panda_tasks_id")
        if attempt is not None and not (attempt.isascii() and attempt.isdigit() and len(attempt) < 19):
            raise ApiError(400, {"detail": "panda_tasks_id must be an integer"})
        key = None if attempt is None else int(attempt)
        found = await tasks.command(query["name"], fmt, attempt=key, residual=residual)
        if isinstance(found, str):
            return Reply(200, found.encode(), media_type="text/plain; charset=utf-8")
        return Reply(200, msgspec.json.format(msgspec.json.encode(found), indent=2))

    async def generate(request: Request) -> Reply:
        return Reply(200, await tasks.generate(request.arguments["name"], request.identity))

    async def set_status(request: Request) -> Reply:
        data = await _object(request)
        return Reply(200, await tasks.move(request.arguments["name"], data.get("status"), request.identity))

    async def lock(request: Request) -> Reply:
        return Reply(200, await tasks.move(request.arguments["name"], "ready", request.identity))

    async def submit(request: Request) -> Reply:
        dry_run = request.query.get("dry_run", "").lower() in ("1", "true")
        return Reply(200, await submissions.submit(request.arguments["name"], request.identity, dry_run=dry_run))

    async def preview(request: Request) -> Reply:
        return Reply(200, await submissions.preview(request.arguments["name"]))

    async def rerun(request: Request) -> Reply:
        return Reply(202, await submissions.rerun(request.arguments["name"], request.identity))

    async def rerun_residual(request: Request) -> Reply:
        return Reply(202, await submissions.rerun(request.arguments["name"], request.identity, residual=True))

    async def outputs(request: Request) -> Reply:
        data = await _object(request)
        did, files = data.get("did"), data.get("files")
        if not isinstance(did, str) or not _is_did(did):
            raise ApiError(400, {"detail": "did must be a DID."})
        if not isinstance(files, list) or not 0 < len(files) <= MOST_DIDS or not all(map(_is_file, files)):
            raise ApiError(400, {"detail": f"files must be a list of 1 to {MOST_DIDS} names of files."})
        return Reply(200, await submissions.add_outputs(request.arguments["name"], did, files, request.identity))

    async def record(request: Request) -> Reply:
        name = request.query.get("name")
        if not name:
            raise ApiError(400, {"detail": "Missing ?name="})
        note().key = name
        return Reply(200, await submissions.record(name, await _object(request), request.identity))

    async def record_failure(request: Request) -> Reply:
        data = await _object(request)
        return Reply(
            200, await submissions.record_failure(data.get("panda_tasks_id"), data.get("reason"), request.identity)
        )

    async def link(request: Request) -> Reply:
        data = await _object(request)
        if ("did" in data) == ("dids" in data):
            raise ApiError(400, {"detail": "Give either did or dids."})
        dids = [data["did"]] if "did" in data else data["dids"]
        if not isinstance(dids, list) or not dids or len(dids) > MOST_DIDS or not all(map(_is_did, dids)):
            raise ApiError(400, {"detail": "dids must be a list of DIDs."})
        return Reply(200, await tasks.link(request.arguments["name"], dids, request.identity))

    async def take(request: Request) -> Reply:
        data = await _object(request)
        given: dict[str, Any] = {}
        for field in TAKEN:
            try:
                given[field.name] = field.parse(data.get(field.name, ""), UTC)
            except FieldError as exc:
                raise ApiError(400, {field.name: list(exc.args)}) from None
        said = data.get("overrides") or {}
        try:
            said = OVERRIDES.parse({**said, **{name: data[name] for name in CATALOGUE if name in data}}, UTC)
        except (FieldError, TypeError):
            raise ApiError(400, {"overrides": ["A JSON object is required."]}) from None
        caller = request.identity
        assert caller is not None
        given["overrides"] = said

        def body(dataset: int, config: int) -> dict[str, Any]:
            texts = {name: given[name] for name in ("name", "description", "csv_file", "requestor")}
            return {**texts, "dataset": dataset, "prod_config": config, "overrides": said, "created_by": caller.subject}

        row, created = await catalogue.take(given, body, caller)
        note().key = str(row["id"])
        return Reply(201 if created else 200, row)

    async def add_retry(request: Request) -> Reply:
        data = await _object(request)
        increase = data.get("increase", 1)
        if not isinstance(increase, int) or isinstance(increase, bool) or not 1 <= increase <= 100:
            raise ApiError(400, {"detail": "increase must be an integer from 1 to 100"})
        more = {"increase": increase}
        return await _operated(request, data, "increase_attempts", more)

    async def retry_failures(request: Request) -> Reply:
        data = await _object(request)
        try:
            parameters = OVERRIDES.parse(data.get("new_parameters", {}), UTC)
        except FieldError:
            raise ApiError(400, {"detail": "new_parameters must be an object"}) from None
        return await _operated(request, data, "retry_failures", {"new_parameters": parameters})

    async def _operated(request: Request, data: Mapping[str, Any], operation: str, more: Mapping[str, Any]) -> Reply:
        number = data.get("jedi_task_id")
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise ApiError(400, {"detail": "jedi_task_id must be an integer"})
        return Reply(
            202, await submissions.operate(request.arguments["name"], operation, number, more, request.identity)
        )

    def post(path: str, handler: Handler, operation: str, summary: str, **more: Any) -> Endpoint:
        described = document(
            "prod-tasks",
            f"prod_tasks_{operation}",
            summary,
            {**(more.pop("answers", None) or {"200": "Done"}), **REFUSALS},
            path={"name": NAME} if "{" in path else None,
            **{"answer": TASK, **more},
        )
        return Endpoint(path, {"POST": handler}, auth="session", scope=Scope.PCS_WRITE, openapi={"post": described})

    commanded = document(
        "prod-tasks",
        "prod_tasks_command",
        "What a task is submitted with, made anew at each call",
        {"200": "A command, or parameters", "400": "Bad values", "404": "No such task", "409": "Several are called so"},
        query={
            "name": NAME,
            "fmt": {"type": "string", "enum": list(FORMATS)},
            "panda_tasks_id": {"type": "integer"},
            "residual": {"type": "integer"},
        },
    )
    previewed = document(
        "prod-tasks",
        "prod_tasks_residual_preview",
        "How much of a task is missing, or why nobody can say",
        {"200": "Rows of its manifest, or a refusal", "404": "No such task", "409": "Several are called so"},
        path={"name": NAME},
    )
    queued = {"type": "object", "properties": {"queued": {"type": "boolean"}, "panda_task_name": TEXT}}
    commands = {"type": "object", "properties": {"condor_command": TEXT, "panda_command": TEXT}}
    recorded = {
        "type": "object",
        "required": ["jedi_task_id"],
        "properties": {
            "jedi_task_id": {"type": "integer"},
            "status": TEXT,
            "panda_tasks_id": {"type": "integer"},
            "panda_task_name": TEXT,
            "residual": {},
        },
    }
    failed = {"type": "object", "properties": {"panda_tasks_id": {"type": "integer"}, "reason": TEXT}}
    linked = {"type": "object", "properties": {"did": TEXT, "dids": {"type": "array", "items": TEXT}}}
    operated = {
        "type": "object",
        "properties": {
            "jedi_task_id": {"type": "integer"},
            "increase": {"type": "integer", "default": 1},
            "new_parameters": {"type": "object"},
        },
    }
    return (
        Endpoint(f"{PATH}command/", {"GET": command}, auth="read", openapi={"get": commanded}),
        post(
            f"{PATH}record-submission/",
            record,
            "record_submission",
            "Bind a number of JEDI to an attempt",
            body=recorded,
            query={"name": NAME},
        ),
        post(
            f"{PATH}record-submission-failure/", record_failure, "record_failure", "An attempt that failed", body=failed
        ),
        post(f"{ONE}generate-commands/", generate, "generate", "Store both commands", answer=commands),
        post(
            f"{ONE}set-status/",
            set_status,
            "set_status",
            "Move it on in its life",
            body={"type": "object", "properties": {"status": TEXT}},
        ),
        post(f"{ONE}lock/", lock, "lock", "Make it ready"),
        post(
            f"{ONE}submit/",
            submit,
            "submit",
            "Hand it to whoever submits",
            query={"dry_run": {"type": "boolean"}},
        ),
        Endpoint(f"{ONE}residual-preview/", {"GET": preview}, auth="read", openapi={"get": previewed}),
        post(
            f"{ONE}rerun-entire-task/",
            rerun,
            "rerun",
            "Hand it over once more",
            answer=queued,
            answers={"202": "Asked for"},
        ),
        post(
            f"{ONE}rerun-residual/",
            rerun_residual,
            "rerun_residual",
            "Hand over what is missing of it",
            answer=queued,
            answers={"202": "Asked for"},
        ),
        post(
            f"{ONE}outputs/",
            outputs,
            "outputs",
            "Record files that it has made",
            body={
                "type": "object",
                "required": ["did", "files"],
                "properties": {"did": TEXT, "files": {"type": "array", "items": TEXT, "maxItems": MOST_DIDS}},
            },
            answer={"type": "object", "properties": {"did": TEXT, "added": {"type": "integer"}}},
        ),
        post(
            f"{ONE}panda-add-retry/",
            add_retry,
            "add_retry",
            "Let JEDI try more often",
            body=operated,
            answers={"202": "Asked for"},
        ),
        post(
            f"{ONE}panda-retry-failures/",
            retry_failures,
            "retry_failures",
            "Let JEDI try again what failed",
            body=operated,
            answers={"202": "Asked for"},
        ),
        post(
            f"{PATH}intake/",
            take,
            "intake",
            "The task of an entry of the public catalogue, made when there is none",
            body={
                "type": "object",
                "properties": {
                    **{field.name: field.schema() for field in TAKEN},
                    "overrides": {"type": "object"},
                    **{name: {} for name in CATALOGUE},
                },
            },
            answers={"200": "It was there", "201": "It is new"},
        ),
        post(f"{ONE}link-input/", link, "link_input", "Say which datasets are its input", body=linked),
    )


async def _object(request: Request) -> Mapping[str, Any]:
    data = await request.data()
    if not isinstance(data, dict):
        raise ApiError(400, {"detail": "The body must be an object."})
    return data


def _is_file(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 500 and value.isprintable()


def _is_did(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 400 and value.isprintable()
