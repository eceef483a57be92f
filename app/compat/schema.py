"""What OpenAPI says of fal's protocol: its own words, since FastAPI reads nothing of these routes."""

from typing import Any, Final

from app.catalogue.registry import Catalogue

SUBMIT: Final = """
As at `queue.fal.run`: the model's input is the body, flat, and the answer names the job by its `request_id`, which is
its id under `/v1/jobs` too. `POST /fal/run/{endpoint}`, as at `fal.run`, takes the same and answers with the result,
once the job has ended.

The URLs of the answer lead here, below `/fal/{owner}/{app}/requests/{request_id}`: `GET` it for the result,
`GET …/status` (`?logs=1` with the model's log), `GET …/status/stream` for the same as events, `PUT …/cancel`.

Of the query only `fal_webhook` is heeded (other `fal_…`, such as `fal_max_queue_length`, are dropped), of the headers
`X-Fal-Tags`, `X-End-User`, `X-Fal-Request-Start-Timeout` (or the older `X-Fal-Request-Timeout`) and `Idempotency-Key`.
A field that the model does not know is refused. Refusals are in fal's shapes, and none is one that a client of fal's
repeats: every quota's is a 402. A submit that is sent again because its answer was lost is told of the job it made.
"""
_ACCEPTED: Final = {
    "type": "object",
    "properties": {
        "status": {"type": "string", "const": "IN_QUEUE"},
        "request_id": {"type": "string", "pattern": "^job_[0-9a-f]{32}$"},
        "response_url": {"type": "string", "format": "uri"},
        "status_url": {"type": "string", "format": "uri"},
        "cancel_url": {"type": "string", "format": "uri"},
        "queue_position": {"type": "integer"},
    },
    "required": ["status", "request_id", "response_url", "status_url", "cancel_url", "queue_position"],
}
_ENTRY: Final = {
    "type": "object",
    "properties": {
        "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
        "msg": {"type": "string"},
        "type": {"type": "string"},
    },
    "required": ["loc", "msg", "type"],
}
_ERROR: Final = {
    "type": "object",
    "description": "A refusal in fal's shapes; of a quota `quotas` says more, as under /v1.",
    "properties": {
        "detail": {"anyOf": [{"type": "string"}, {"type": "array", "items": _ENTRY}]},
        "message": {"type": "string"},
        "error_type": {"type": "string"},
    },
    "required": ["detail", "message"],
}
_REFUSALS: Final = {
    400: "The body took too long.",
    401: "No key that is in use.",
    402: "A quota blocks.",
    403: "Not for this role or token; or too many wrong keys came from here.",
    404: "The endpoint is not served.",
    413: "Too large a body.",
    415: "Not JSON.",
    422: "Bad input.",
    503: "The database is away.",
}


def _header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


_PARAMETERS: Final = [
    {
        "name": "fal_webhook",
        "in": "query",
        "required": False,
        "description": "Where to POST the end of the job, as fal would.",
        "schema": {"type": "string", "format": "uri"},
    },
    _header("X-Fal-Tags", "`name=value,…`, at most 10; what cannot be a tag is left out.", {"type": "string"}),
    _header("X-End-User", "Your own name for your visitor.", {"type": "string", "minLength": 1, "maxLength": 128}),
    _header("X-Fal-Request-Start-Timeout", "Give it up, free, if it has not started by then.", {"type": "number"}),
    _header("Idempotency-Key", "As under /v1.", {"type": "string", "minLength": 1, "maxLength": 255}),
]
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The job is stored, and its price is promised.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/FalAccepted"}}},
    },
    **{
        status: {
            "description": description,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/FalError"}}},
        }
        for status, description in _REFUSALS.items()
    },
}


def complete(openapi: dict[str, Any], catalogue: Catalogue) -> None:
    """Fill in what the catalogue knows of the submit, and the schemas it names."""
    schemas = openapi["components"]["schemas"]
    schemas |= {"FalAccepted": _ACCEPTED, "FalError": _ERROR}
    refs, examples = [], {}
    for endpoint in catalogue.endpoints:
        schema = endpoint.input.model_json_schema(ref_template="#/components/schemas/{model}", mode="validation")
        schemas |= schema.pop("$defs", {})
        schemas[endpoint.input.__name__] = schema
        refs.append({"$ref": f"#/components/schemas/{endpoint.input.__name__}"})
        examples[endpoint.id] = {"summary": endpoint.id, "value": dict(endpoint.example)}
    operation = openapi["paths"]["/fal/{endpoint}"]["post"]
    ids = [endpoint.id for endpoint in catalogue.endpoints]
    path = {"name": "endpoint", "in": "path", "required": True, "schema": {"type": "string", "enum": ids}}
    operation["parameters"] = [path, *_PARAMETERS]
    operation["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"anyOf": refs}, "examples": examples}},
    }
