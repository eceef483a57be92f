"""Refusals: RFC 9457 problems. A problem is a class beside what raises it; its docstring is its page.

Problem
├── InvalidInput      422 invalid-input
├── NotJson           415 not-json
├── NotHttp           400 not-http
├── BodyTooSlow       408 body-too-slow
├── BodyTooLarge      413 body-too-large
├── HeadTooLarge      431 head-too-large
├── TooManyFailures   429 too-many-failures
├── NotFound          404 not-found
├── MethodNotAllowed  405 method-not-allowed
├── NameTaken         409 name-taken
├── TooBusy           503 too-busy
├── Unavailable       503 unavailable
├── Internal          500 internal
└── … (accounts, ledger and jobs define theirs)
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails, to_json

MEDIA_TYPE: Final = "application/problem+json"

_MOST_FAULTS: Final = 250
_LONGEST_NAME: Final = 100
_OF_A_KEY: Final = "[key]"  # how pydantic marks a fault of an object's key
_PYDANTIC_SUBJECT: Final = re.compile(r"^(Input|String|Dictionary|Tuple|List) should ")
_PYDANTIC_STAGE: Final = re.compile(r" after validation(, not \d+)?$")


class Problem(Exception):  # noqa: N818  a problem is a fact, not an error of ours
    """Something the caller must hear about. Raise it anywhere below a route."""

    status: ClassVar[int] = 500
    code: ClassVar[str]
    title: ClassVar[str]

    def __init_subclass__(cls) -> None:
        """`QuotaExceeded` → code `quota-exceeded`, title "Quota exceeded", unless the class says otherwise."""
        words = re.findall(r"[A-Z][a-z]*", cls.__name__)
        if "code" not in cls.__dict__:
            cls.code = "-".join(words).lower()
        if "title" not in cls.__dict__:
            cls.title = " ".join(words).capitalize()

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None, **members: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members

    def body(self, *, base_url: str, request_id: str) -> bytes:
        """The `application/problem+json` document."""
        return to_json(
            {
                "type": f"{base_url}/problems/{self.code}",
                "code": self.code,
                "title": self.title,
                "status": self.status,
                "detail": self.detail,
                "request_id": request_id,
                **self.members,
            }
        )


def all_problems() -> dict[str, type[Problem]]:
    """Every problem that can be answered, by code, in alphabetical order."""

    def below(kind: type[Problem]) -> Iterator[type[Problem]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    return {kind.code: kind for kind in sorted(below(Problem), key=lambda kind: kind.code)}


class InvalidInput(Problem):
    """Something in the request is not what this route takes.

    `errors` names every fault at once: `pointer` is a JSON pointer into the body, `parameter` a query or path
    parameter, `header` a header; `detail` says what would be right. Of very many faults only the first are listed.
    Mend them all and send the request again: nothing was stored and nothing was promised.
    """

    status = 422

    def __init__(self, errors: Sequence[Mapping[str, str]], *, found: Sequence[ErrorDetails] = ()) -> None:
        """`found` is the same as pydantic has it, for who words it otherwise."""
        self.found = found
        self.faults = errors
        count = len(errors)
        faults = "the fault" if count == 1 else f"the {count} faults"
        listed = "listed in `errors`" if count <= _MOST_FAULTS else f"(`errors` lists the first {_MOST_FAULTS})"
        super().__init__(
            f"Mend {faults} {listed} and send it again.", errors=[dict(error) for error in errors[:_MOST_FAULTS]]
        )


class NotJson(Problem):
    """The body is not JSON.

    Send `Content-Type: application/json` and a body that is one JSON value in UTF-8, without NaN or Infinity and
    not nested out of all proportion.
    """

    status = 415
    title = "Not JSON"


class BodyTooLarge(Problem):
    """The body is larger than this route takes.

    `limit_bytes` says how much is taken. An image can be given as an https link instead of a data URI.
    """

    status = 413


class BodyTooSlow(Problem):
    """The body did not arrive in the time that it may take.

    `within_seconds` says how long that is. Nothing was stored: send it again, over a faster line or with the image
    as an https link instead of a data URI.
    """

    status = 408


class HeadTooLarge(Problem):
    """The path and the headers of the request are larger than any request of this gateway needs.

    `limit_bytes` and `limit_headers` say how much is taken. Send fewer or shorter headers; cookies are not read here.
    """

    status = 431


class NotHttp(Problem):
    """What came over the connection is not a request that HTTP/1.1 knows.

    Look at the program or the proxy that wrote it: a length that is said twice and a broken chunk are refused too.
    """

    status = 400
    title = "Not HTTP"


class TooManyFailures(Problem):
    """Too many requests with a wrong key came from this address within a minute.

    Until the seconds named in `Retry-After` have passed no key is looked at that has not lately opened something
    here. Find the program that sends the wrong key; nothing is wrong with the keys that are in use.
    """

    status = 429


class TooBusy(Problem):
    """The gateway has as many large requests in hand as it takes at once.

    Nothing was read and nothing was stored. Send the same request again after the seconds named in `Retry-After`.
    """

    status = 503

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Retry-After": "5", "Connection": "close"})


class NotFound(Problem):
    """There is nothing here, or it is not yours to see: the answer is the same.

    Check the id and the key you sent it with.
    """

    status = 404


class MethodNotAllowed(Problem):
    """The path exists, but not with this method.

    The `Allow` header names the methods it has; /docs says what each of them does.
    """

    status = 405


class NameTaken(Problem):
    """Something of this name exists already: names, emails and external ids are unique.

    Choose another, or change the one that is there.
    """

    status = 409


class Unavailable(Problem):
    """The gateway cannot reach its database just now.

    Nothing was stored and nothing was promised, unless `detail` says that this is not known.
    Send the same request again after the seconds named in `Retry-After`.
    """

    status = 503

    def __init__(self, detail: str = "The database is away. Send the same request again in a moment.") -> None:
        super().__init__(detail, headers={"Retry-After": "2"})


class Internal(Problem):
    """A fault of the gateway's own. It is in the log under the `request_id` of this answer.

    Tell whoever runs the gateway that id. If you sent an `Idempotency-Key`, repeating the request is safe.
    """

    status = 500
    title = "Internal fault"


def input_faults(errors: Sequence[ErrorDetails], *, skip: int = 0) -> list[dict[str, str]]:
    """Pydantic's errors as faults of the body; `skip` leading parts of each location are not the body's."""
    return [{"pointer": pointer(error["loc"][skip:]), "detail": _sentence(error)} for error in errors]


def pointer(location: Sequence[str | int]) -> str:
    """A JSON pointer (RFC 6901); the whole body is the empty string. A field's name that is absurdly long is cut."""
    is_of_a_key = len(location) >= len(("field", "key", _OF_A_KEY)) and location[-1] == _OF_A_KEY
    names = [cut(str(part)) for part in (location[:-1] if is_of_a_key else location)]
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)


def cut(name: str) -> str:
    """A field's name as it may be shown again."""
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"


def _sentence(error: ErrorDetails) -> str:
    """What is wrong, in words; never the value itself."""
    match error["type"]:
        case "extra_forbidden":
            return "this field is not known here"
        case "missing":
            return "this field is required"
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case "dict_type" | "model_type" | "model_attributes_type":
            return "must be a JSON object"
        case _:
            words = _PYDANTIC_SUBJECT.sub("must ", _PYDANTIC_STAGE.sub("", error["msg"]))
            return words[:1].lower() + words[1:]


class ProblemBody(BaseModel):
    """A refusal (RFC 9457). Figures stand beside these members."""

    model_config = ConfigDict(extra="allow", title="Problem")

    type: str = Field(description="URL of the problem's page; its last segment is the code.")
    code: str
    title: str
    status: int
    detail: str = Field(description="What to do next.")
    request_id: str


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route, for OpenAPI."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }
