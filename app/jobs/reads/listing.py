"""Lists of jobs, as each role may see them."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from app.accounts.callers import Caller
from app.accounts.fields import Moment
from app.db import Plain
from app.ids import first_id, parse, show
from app.jobs.reads.reach import listed_by
from app.jobs.reads.wire import job_json
from app.jobs.states import STATUSES
from app.outputs.rows import SQL_HAS_VIDEO
from app.problems import InvalidInput, input_faults
from app.tokens import Grant

_MOMENT: Final[TypeAdapter[datetime]] = TypeAdapter(Moment)
Link = Callable[[str, UUID], str]
"""A Job's JSON text and its id → the text with its `content_url` (`Links.completing`)."""

_LONGEST: Final = 300


class JobFilter:
    """The query of a list of jobs: conditions over `jobs j`, with their values."""

    def __init__(self, query: Sequence[tuple[str, str]]) -> None:
        self.conditions: list[str] = []
        self.values: list[Any] = []
        self.limit = 20
        self.after: UUID | None = None
        self._faults: list[dict[str, str]] = []
        times = Counter(name for name, _ in query)
        for name, value in dict(query).items():
            if times[name] > 1:
                self._fault(name, "give it once")
            elif "\0" in name + value or max(len(name), len(value)) > _LONGEST:
                self._fault(name, f"must have at most {_LONGEST} characters, none of them NUL")
            else:
                self._read(name, value)
        if self._faults:
            raise InvalidInput(self._faults)

    def _fault(self, name: str, detail: str) -> None:
        self._faults.append({"parameter": name[:100], "detail": detail})

    def _add(self, condition: str, value: Any) -> None:
        self.values.append(value)
        self.conditions.append(condition.format(f"${len(self.values)}"))

    def _read(self, name: str, value: str) -> None:
        match name:
            case "limit":
                self._read_limit(value)
            case "cursor":
                self.after = self._read_id("cursor", "job", value)
            case "status":
                self._read_status(value)
            case "model" | "end_user":
                self._add(f"j.{name} = {{}}", value)
            case "user_id" | "team_id":
                if found := self._read_id(name, name.removesuffix("_id"), value):
                    self._add(f"j.{name} = {{}}", found)
            case "since":
                self._read_moment(name, value, "j.id >= {}")
            case "until":
                self._read_moment(name, value, "j.id < {}")
            case _ if name.startswith("tag.") and name != "tag.":
                self._add("j.tags <> '{{}}' AND j.tags @> {}::jsonb", to_json({name[4:]: value}).decode())
            case _:
                known = "status, model, user_id, team_id, end_user, tag.NAME, since, until, limit, cursor"
                self._fault(name, f"is not known here; known are {known}")

    def _read_limit(self, value: str) -> None:
        if value.isascii() and value.isdigit() and 1 <= int(value) <= 100:  # noqa: PLR2004  the Contract's
            self.limit = int(value)
        else:
            self._fault("limit", "must be a whole number from 1 to 100")

    def _read_status(self, value: str) -> None:
        if value in STATUSES:
            self._add("j.status = {}", value)
        else:
            self._fault("status", f"must be one of {', '.join(STATUSES)}")

    def _read_id(self, name: str, prefix: str, value: str) -> UUID | None:
        found = parse(prefix, value)
        if found is None:
            self._fault(name, f"must be an id: {prefix}_ and 32 hex digits")
        return found

    def _read_moment(self, name: str, value: str, condition: str) -> None:
        try:
            self._add(condition, first_id(_MOMENT.validate_python(value)))
        except ValidationError as error:
            self._faults += [{"parameter": name, "detail": fault["detail"]} for fault in input_faults(error.errors())]


async def list_jobs(
    plain: Plain, caller: Caller, asked: JobFilter, *, grant: Grant | None = None, link: Link | None = None
) -> str:
    """A page of jobs, newest first, as JSON text; of a token, those that its grant shows.

    `link` completes those that have a video.
    """
    values = [*asked.values]
    conditions = [*asked.conditions]
    if grant is not None and grant.end_user is not None:
        values.append(grant.end_user)
        conditions.append(f"j.end_user = ${len(values)}")
    if asked.after is not None:
        values.append(asked.after)
        conditions.append(f"j.id < ${len(values)}")
    limit = asked.limit + 1
    arms = []
    for column, value in listed_by(caller) if grant is None else [("user_id", caller.user_id)]:
        reached = conditions
        if column:
            values.append(value)
            reached = [*conditions, f"j.{column} = ${len(values)}"]
        where = f"WHERE {' AND '.join(reached)}" if reached else ""
        arms.append(f"(SELECT j.id FROM jobs j {where} ORDER BY j.id DESC LIMIT {limit})")  # noqa: S608
    values.append(caller.user_id)
    shown = "j.input" if caller.role != "finance" else f"CASE WHEN j.user_id = ${len(values)} THEN j.input END"
    rows = await plain.fetch(
        f"SELECT j.id, {SQL_HAS_VIDEO} AS has_video, {job_json(shown)} AS body FROM jobs j "  # noqa: S608
        f"WHERE j.id IN ({' UNION '.join(arms)}) AND ${len(values)}::uuid IS NOT NULL "
        f"ORDER BY j.id DESC LIMIT {limit}",
        *values,
    )
    page = rows[: asked.limit]
    cursor = f'"{show("job", page[-1]["id"])}"' if len(rows) > asked.limit else "null"
    bodies = [link(row["body"], row["id"]) if link and row["has_video"] else row["body"] for row in page]
    return f'{{"data":[{",".join(bodies)}],"next_cursor":{cursor}}}'
