"""No connection of the pool is held while fal's platform or a receiver is called (the queue: tests/ledger)."""

import ast
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.deliveries.post import Post, Tried
from app.fal import Balance, BillPage, Erased, Initiated, Stored
from app.jobs.at_fal.claims import claim_followed
from app.jobs.unknown.gone import Forgotten
from app.reports.fal_bill.daily import DailyReconciling
from tests.gateway import ADMIN
from tests.jobs.hand import Hand, rest

APP = Path(__file__).parent.parent.parent / "app"
OUTSIDE = {
    "platform": {"request", "requests", "balance", "prices", "erase_payloads", "bill_page"},
    "_post": {"send"},
    "storage": {"initiate", "put"},
}


def calls_outside() -> set[tuple[str, str]]:
    """`(file, method)` of every call of fal's platform, and of the one who posts to receivers."""
    found = set()
    for path in (path for path in APP.rglob("*.py") if path.parent.name not in {"fal", "sandbox"}):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                holder = ast.unparse(node.func.value).rpartition(".")[2]
                if node.func.attr in OUTSIDE.get(holder, ()):
                    found.add((path.name, node.func.attr))
    return found


def test_every_call_outside_is_walked_below() -> None:
    assert calls_outside() == {
        ("lost.py", "requests"),
        ("lost.py", "request"),
        ("gone.py", "request"),
        ("balance.py", "balance"),
        ("check.py", "prices"),
        ("fal_copies.py", "erase_payloads"),
        ("reading.py", "bill_page"),
        ("sender.py", "send"),
        ("stored.py", "initiate"),
        ("stored.py", "put"),
    }


async def test_nothing_is_held_while_others_are_asked(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    wiring = hand.gateway.wiring
    asked: list[str] = []

    def watched(name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def watching(*given: Any, **named: Any) -> Any:
            asked.append(name)
            assert wiring.db._engine.pool.checkedout() == 0, name  # type: ignore[attr-defined]
            return await call(*given, **named)

        return watching

    for name in ("requests", "request", "prices"):
        monkeypatch.setattr(wiring.platform, name, watched(name, getattr(wiring.platform, name)))
    lost = await hand.lose()
    await hand.name("found", lost)
    await hand.look()
    assert await hand.status(lost) == "submitted"
    await hand.sql("UPDATE jobs SET next_check_at = now()")
    (followed,) = await claim_followed(wiring.db, 10, poll_seconds=1)
    await Forgotten(wiring, hand.rooms.hub, hand.rooms.endings).ask_the_list(followed)

    checked = await hand.gateway.client.get("/v1/prices/check", headers=ADMIN)
    assert checked.status_code == 200, checked.text

    async def balance() -> Balance:
        return Balance(Decimal(100))

    monkeypatch.setattr(wiring.platform, "balance", watched("balance", balance))
    monkeypatch.setattr(wiring.platform, "reads_balance", True)
    await hand.rooms.balance._turn(1)
    await rest(hand.rooms.balance.loop)

    async def bill_page(*_: Any) -> BillPage:
        return BillPage((), None)

    monkeypatch.setattr(wiring.platform, "bill_page", watched("bill_page", bill_page), raising=False)
    daily = DailyReconciling(wiring)
    await daily._turn(1)
    await rest(daily.loop)

    async def send(*_: Any, **__: Any) -> Tried:
        return Tried(outcome="delivered", status=200)

    monkeypatch.setattr(Post, "send", watched("send", send))
    job_id = await hand.submit("a ship", webhook_url="https://example.com/hook")
    assert await hand.cancel(job_id) == 200
    await hand.rooms.sender._turn(1)
    await rest(hand.rooms.sender.loop)

    async def initiate(**_: Any) -> Initiated:
        return Initiated("https://storage.test/put", "https://storage.test/boat.png")

    async def put(*_: Any, **__: Any) -> Stored:
        return Stored()

    monkeypatch.setattr(wiring.storage, "initiate", watched("initiate", initiate))
    monkeypatch.setattr(wiring.storage, "put", watched("put", put))
    files = {"file": ("boat.png", b"\x89PNG\r\n\x1a\n")}
    uploaded = await hand.gateway.client.post("/v1/files", files=files, headers=hand.person.headers)
    assert uploaded.status_code == 201, uploaded.text

    async def erase(_: str) -> Erased:
        return Erased()

    monkeypatch.setattr(wiring.platform, "erase_payloads", watched("erase_payloads", erase))
    monkeypatch.setattr(wiring.platform, "erases_payloads", True)
    await hand.sql("UPDATE jobs SET status = 'unconfirmed' WHERE id = $1", lost[4:])
    assert await hand.resolve(lost, outcome="void") == 200
    assert await hand.forget(lost) == 204
    await hand.sql("UPDATE erasures SET next_try_at = now()")
    await hand.erase_copies()
    assert set(asked) == {name for names in OUTSIDE.values() for name in names}
