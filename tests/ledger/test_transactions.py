"""One place commits, nothing waits for the network inside a transaction, and money never meets a float."""

import ast
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from app.accounts.callers import COMMAND_LINE
from app.fal import CancelRequested, Completed, Genuine, KeySet, NotSent, Queued, Refused, RefusedUs, Succeeded, Unknown
from app.jobs.ends.cancel import cancel_job
from app.jobs.ends.resolve import Resolution, resolve_job

from .house import House, Someone, failed, units
from .test_exactly_once import calling, stray

ROOT = Path(__file__).parent.parent.parent
_COMMITS = re.compile(r"(^|;)\s*(COMMIT|(END|PREPARE)\s+(TRANSACTION|WORK))\b", re.IGNORECASE)


def commits_in(source: str) -> list[int]:
    """The lines that commit: a call of `.commit()`, or SQL that says COMMIT."""
    tree = ast.parse(source)
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "commit":
            lines.append(node.lineno)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            lines += [node.lineno] if _COMMITS.search(node.value) else []
    return lines


def test_commit_stands_once() -> None:
    found = {
        str(path.relative_to(ROOT)): commits_in(path.read_text())
        for folder in ("app", "migrations")
        for path in (ROOT / folder).rglob("*.py")
        if "sandbox" not in path.parts
    }
    assert {path: len(lines) for path, lines in found.items() if lines} == {"app/db.py": 1}


@pytest.mark.parametrize(
    "planted",
    [
        "async def f(tx): await tx.commit()",
        "async def f(tx): await tx.execute('COMMIT')",
        "async def f(tx): await tx.execute('UPDATE jobs SET a = 1; commit')",
        'SQL = """\n  END TRANSACTION"""',
        "async def f(tx): await tx.execute(f'COMMIT {x}')",
    ],
)
def test_a_planted_commit_is_seen(planted: str) -> None:
    assert commits_in(planted)


def test_a_word_about_commits_is_none() -> None:
    assert not commits_in('def f():\n    """COMMIT is ours."""\n    log("the answer to a COMMIT was lost")')


MONEY = [
    *(ROOT / "app/ledger").rglob("*.py"),
    ROOT / "app/catalogue/prices.py",
    ROOT / "app/money.py",
    *(ROOT / "app/jobs/submits" / f"{name}.py" for name in ("accept", "estimate", "quotes", "submit")),
    *(ROOT / "app/jobs/ends" / f"{name}.py" for name in ("adjust", "adjust_by_hand", "charges", "ending", "resolve")),
    ROOT / "app/jobs/at_fal/strays.py",
]


def floats_in(source: str) -> Iterator[int]:
    """The lines where a float could come to be."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield node.lineno
        if isinstance(node, ast.Name) and node.id == "float":
            yield node.lineno
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield node.lineno


# Seconds of a wait or of a video's length are no money.
NOT_MONEY = re.compile(
    r"_SECONDS: Final|^    seconds: float$|poll_seconds|rest_seconds|inference_seconds|float\(seconds\)|time\.monotonic"
)


@pytest.mark.parametrize("path", MONEY, ids=lambda path: str(path.relative_to(ROOT)))
def test_money_meets_no_float(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert [
        lines[number - 1] for number in floats_in(path.read_text()) if not NOT_MONEY.search(lines[number - 1])
    ] == []


@pytest.mark.parametrize("planted", ["float(amount)", "amount * 1.4", "a / b", "x: float"])
def test_a_planted_float_is_seen(planted: str) -> None:
    assert list(floats_in(planted))


def calls_to_fal() -> set[tuple[str, str]]:
    """`(file, method)` of every call of the queue's four methods in the house."""
    found = set()
    for path in (ROOT / "app").rglob("*.py"):
        if path.parent.name in {"fal", "sandbox"}:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                holder = ast.unparse(node.func.value)
                if node.func.attr in {"submit", "status", "result", "cancel"} and re.search(r"\bfal$", holder):
                    found.add((path.name, node.func.attr))
    return found


def test_every_path_to_fal_is_walked_below() -> None:
    assert calls_to_fal() == {
        ("dispatch.py", "submit"),
        *(("track.py", method) for method in ("status", "result", "cancel")),
        *(("strays.py", method) for method in ("status", "result", "cancel")),
        ("receive.py", "status"),
    }


async def test_no_connection_is_held_and_no_transaction_open_while_fal_is_asked(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else runs here, so while fal is asked the pool must be whole and the server idle."""
    pool = house.db._engine.pool
    watcher = await house.db.connect()
    asked: list[str] = []

    async def look(call: str) -> None:
        asked.append(call)
        assert pool.checkedout() == 0  # type: ignore[attr-defined]
        busy = await watcher.fetch(
            "SELECT state, query FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'"
        )
        assert busy == [], call

    house.fal.called = look
    who = await house.someone()
    await house.quota("100.00")
    ref = house.fal.accepts
    for outcome in (
        ref,
        lambda: NotSent("x"),
        lambda: RefusedUs(401, "x", None),
        lambda: Unknown("x", None),
        lambda: Refused(failed(422).error),
    ):
        house.fal.submit_outcome = outcome
        await house.submit(who)
        await house.make_due()
        assert await house.send() > 0
    house.fal.submit_outcome = None
    while await house.value("SELECT count(*) FROM jobs WHERE status = 'queued'"):
        await house.make_due()
        await house.send()
    for status in (Queued(3), Queued(1), Completed(None, None)):
        house.fal.status_outcome = status
        house.fal.result_outcome = Succeeded({}, units("5"))
        await house.make_due()
        assert await house.track() > 0
    job_id = await house.submit(who)
    await house.send()
    house.fal.cancel_outcome = CancelRequested()
    assert (await cancel_job(house.rooms, calling(who), job_id))[0] == 202
    house.fal.result_outcome = failed(499, canceled=True)
    await house.make_due()
    await house.track()
    assert (await house.job(job_id))["status"] == "canceled"
    await stray(house, who)
    await house.follow_strays()
    await _tell(house, who, look, monkeypatch)
    unconfirmed = await house.value("SELECT id FROM jobs WHERE status = 'unconfirmed'")
    await resolve_job(house.rooms, COMMAND_LINE, unconfirmed, Resolution(outcome="void", note="gone"))
    await watcher.close()
    assert {"submit", "status", "result", "cancel", "keys"} == set(asked)
    assert asked.count("cancel") >= 2
    assert await house.audit() == []


async def _tell(
    house: House, who: Someone, look: Callable[[str], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook about a job whose submit's answer was lost: fal's keys are read, then where the request stands."""

    async def judge(*_: object, **__: object) -> Genuine:
        await look("keys")
        return Genuine("told", "us")

    async def read_body() -> bytes:
        return b'{"request_id": "told"}'

    monkeypatch.setattr(KeySet, "judge", judge)
    house.fal.submit_outcome = lambda: Unknown("x", None)
    job_id = await house.submit(who)
    while (await house.job(job_id))["status"] == "queued":  # one probe at a time, the oldest first
        await house.send()
    await house.execute("INSERT INTO fal_accounts VALUES ($1, 'us', now())", house.fal.key_id)
    attempt_id = await house.value("SELECT attempt_id FROM jobs WHERE id = $1", job_id)
    before = house.fal.calls.count("status")
    await house.rooms.receiver.receive(attempt_id.hex, [], read_body)
    assert house.fal.calls.count("status") == before + 1
    assert (await house.job(job_id))["status"] == "submitted"


async def test_a_call_inside_a_transaction_is_seen(house: House) -> None:
    pool = house.db._engine.pool
    async with house.db.begin():
        assert pool.checkedout() == 1  # type: ignore[attr-defined]
