"""What OpenAPI says of the routes that FastAPI cannot read from a signature."""

from collections.abc import Mapping
from typing import Any, Final

from app.catalogue.registry import Catalogue
from app.http import Page
from app.jobs.reads.log_reading import LogEntry
from app.jobs.reads.wire import BlockingQuota, Estimate, Job
from app.jobs.states import STATUSES
from app.jobs.submits.request import DEFAULT_MODEL, LONGEST_WAIT_SECONDS, body_type

Answers = dict[int | str, dict[str, Any]]

SUBMIT: Final = """
fal's own fields, flat, and ours. The answer comes as soon as the job is stored and its price is promised: **202**,
with the job's address in `Location`. Then read the job, wait for it with `Prefer: wait=60`, or follow
`GET /v1/jobs/{id}/events`.

Send an `Idempotency-Key` with every submit: repeating it with the same body gives you the same job, never a second
one.
"""
ESTIMATE: Final = "The same body as the submit. `quotas` are those that would block it now. Nothing is written."

JOB_ID: Final = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^job_[0-9a-f]{32}$"},
}
WAIT: Final = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": f"`wait=N`: answer when it has ended or N seconds ({LONGEST_WAIT_SECONDS} at most) have passed.",
    "schema": {"type": "string", "examples": ["wait=60"]},
}
KEY_OR_TOKEN: Final[list[dict[str, list[str]]]] = [{"key": []}, {"token": []}]
TOKEN_IN_QUERY: Final = {
    "name": "token",
    "in": "query",
    "required": False,
    "description": "A token of this one job, where no header can be sent; counts before a header.",
    "schema": {"type": "string", "pattern": "^ft_[A-Za-z0-9_-]+$"},
}
LAST_EVENT_ID: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The `id` of the last event you have seen; browsers send it by themselves.",
    "schema": {"type": "string", "examples": ["7"]},
}
_EVENT: Final = {
    "type": "object",
    "description": "The job, at once and at each change.",
    "properties": {
        "event": {"type": "string", "const": "job"},
        "id": {"type": "string", "description": "The job's version."},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Job"},
        },
        "retry": {"type": "integer", "description": "Milliseconds, once, at the beginning."},
    },
    "required": ["event", "id", "data"],
}
_LOG_EVENT: Final = {
    "type": "object",
    "description": "A line of what the model writes, each once in a stream. It has no `id`: that is the job's version.",
    "properties": {
        "event": {"type": "string", "const": "log"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/LogEntry"},
        },
    },
    "required": ["event", "data"],
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "1–255 printable ASCII characters, yours to choose; belongs to your user.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def _filter(name: str, schema: Mapping[str, Any], description: str = "") -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": dict(schema)}


FILTERS: Final = [
    _filter("status", {"type": "string", "enum": list(STATUSES)}),
    _filter("model", {"type": "string"}),
    _filter("user_id", {"type": "string", "pattern": "^user_[0-9a-f]{32}$"}),
    _filter("team_id", {"type": "string", "pattern": "^team_[0-9a-f]{32}$"}),
    _filter("end_user", {"type": "string"}),
    _filter("tag.NAME", {"type": "string"}, "Put the tag's own name for NAME: `tag.campaign=spring`."),
    _filter("since", {"type": "string", "format": "date-time"}),
    _filter("until", {"type": "string", "format": "date-time"}),
    _filter("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}),
    _filter("cursor", {"type": "string", "pattern": "^job_[0-9a-f]{32}$"}, "`next_cursor` of the page before."),
]


ESTIMATED: Final[Answers] = {
    200: {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Estimate"}}}}
}
LISTED: Final[Answers] = {200: {"model": Page[Job]}}
LOGGED: Final[Answers] = {200: {"model": Page[LogEntry]}}
STREAMED: Final[Answers] = {
    200: {
        "description": "Server-sent events: `event: job`, `id` the version, `data` the Job; `event: log`, its log.",
        "content": {"text/event-stream": {"schema": {"oneOf": [_EVENT, _LOG_EVENT]}}},
    },
    204: {"description": "The job has ended and you have seen its last version."},
}


CONTENT: Final = """
The bytes of the video: of the copy that this gateway keeps, else as they come from fal. One range at a time can be
asked for. `content_url` of a Job is this address with a token that lets a player in for an hour.

`?redirect=1`: where the video is, for whoever would rather have it without this gateway in between; a copy in a folder
of the gateway's is sent all the same.
"""
CONTENT_PARAMETERS: Final = [
    {
        "name": "Range",
        "in": "header",
        "required": False,
        "description": "One range of bytes; several are answered with the whole.",
        "schema": {"type": "string", "examples": ["bytes=0-1023"]},
    },
    {
        "name": "If-Range",
        "in": "header",
        "required": False,
        "description": "The `ETag` that the range belongs to: of another video the whole is sent.",
        "schema": {"type": "string"},
    },
    _filter("token", {"type": "string"}, "A token of this job, where no header can be sent."),
    _filter("redirect", {"type": "string", "enum": ["0", "1"]}),
]
_VIDEO: Final = {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}
CONTENTS: Final[Answers] = {
    200: {"description": "The video.", "content": _VIDEO},
    206: {"description": "The part of it that was asked for.", "content": _VIDEO},
    302: {"description": "Where it is."},
}


def answers_job(descriptions: Mapping[int, str]) -> Answers:
    """Answers that carry a Job."""
    schema = {"$ref": "#/components/schemas/Job"}
    return {
        status: {"description": description, "content": {"application/json": {"schema": schema}}}
        for status, description in descriptions.items()
    }


def complete(openapi: dict[str, Any], catalogue: Catalogue) -> None:
    """Fill in the bodies of each category's routes from the catalogue, and the schemas they name."""
    schemas = openapi["components"]["schemas"]
    for model in (Job, Estimate, BlockingQuota):
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    for path in openapi["paths"].values():
        for operation in path.values():
            category = operation.pop("x-category", None)
            if category is not None:
                operation["requestBody"] = _body(schemas, catalogue, category)
                if operation["operationId"].startswith("submit"):
                    operation["parameters"] = [*operation.get("parameters", []), _IDEMPOTENCY_KEY, WAIT]


def _body(schemas: dict[str, Any], catalogue: Catalogue, category: str) -> dict[str, Any]:
    refs, examples = [], {}
    for endpoint in catalogue.endpoints:
        if endpoint.category != category:
            continue
        body = body_type(endpoint)
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}", mode="validation")
        schemas |= schema.pop("$defs", {})
        schema["title"] = endpoint.model
        schema["properties"]["model"] |= {"enum": [endpoint.model, endpoint.id]}
        example = dict(endpoint.example)
        if endpoint.model != DEFAULT_MODEL:
            del schema["properties"]["model"]["default"]
            schema["required"] = [*schema.get("required", []), "model"]
            example = {"model": endpoint.model, **example}
        schemas[body.__name__] = schema
        refs.append({"$ref": f"#/components/schemas/{body.__name__}"})
        examples[endpoint.model] = {"summary": endpoint.model, "value": example}
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}
