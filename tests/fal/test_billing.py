"""fal's bill is read by pages under the ADMIN key; what cannot be understood is Trouble, as a whole."""

import ssl
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from app.fal import BillPage, Platform, Trouble

from .conftest import FAL_KEY
from .wire import REQUEST_ID, Act, answer, serving

ADMIN_KEY = "an-admin-of-fal:with-a-long-enough-secret"
SINCE, UNTIL = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, 12, 30, tzinfo=UTC)
EVENT: dict[str, Any] = {
    "request_id": REQUEST_ID,
    "endpoint_id": "fal-ai/flux/dev",
    "timestamp": "2026-10-15T10:30:45Z",
    "output_units": 1.5,
    "unit_price": 0.001,
    "percent_discount": 10,
    "cost_subtotal": 0.0015,
    "cost_discount": 0.00015,
    "cost_total": 0.00135,
    "cost_estimate_nano_usd": 1350000,
    "auth_method": "Key of Bob",
    "auth_method_structured": {"detail": "new"},
}


def told(*events: dict[str, Any], **more: Any) -> Act:
    return answer(200, {"billing_events": list(events), "next_cursor": None, "has_more": False} | more)


async def read(
    act: Act, roots: ssl.SSLContext, *, admin_key: str | None = ADMIN_KEY, cursor: str | None = None
) -> tuple[BillPage | Trouble, list[str]]:
    """What it came to, and the request line and key of each call."""
    async with serving(act) as server:
        platform = Platform(
            fal_key=SecretStr(FAL_KEY),
            admin_key=None if admin_key is None else SecretStr(admin_key),
            api_url=f"{server.url}/v1",
            read_seconds=2,
            tls=roots,
        )
        assert platform.reads_bill == (admin_key is not None)
        try:
            page = await platform.bill_page(SINCE, UNTIL, cursor)
        finally:
            await platform.aclose()
    return page, [f"{heard.line} {heard.headers['authorization']}" for heard in server.heard]


async def test_events_are_read_to_the_nano_dollar_and_what_is_new_is_passed_over(roots: ssl.SSLContext) -> None:
    page, heard = await read(told(EVENT, next_cursor="Mg==", has_more=True), roots, cursor="MQ==")
    assert isinstance(page, BillPage)
    (event,) = page.events
    assert (event.fal_request_id, event.endpoint, event.paid_with) == (REQUEST_ID, "fal-ai/flux/dev", "Key of Bob")
    assert event.billed_at == datetime(2026, 10, 15, 10, 30, 45, tzinfo=UTC)
    assert (event.units, event.unit_price_usd, event.usd) == (Decimal("1.5"), Decimal("0.001"), Decimal("0.00135"))
    assert page.next_cursor == "Mg=="
    (line,) = heard
    assert line == (
        "GET /v1/models/billing-events?start=2026-10-01T00:00:00Z&end=2026-11-01T12:30:00Z&limit=10000"
        f"&expand=auth_method&cursor=MQ%3D%3D HTTP/1.1 Key {ADMIN_KEY}"
    )


@pytest.mark.parametrize(
    ("given", "usd"),
    [
        ({"cost_total": 1.4000000000000001}, "1.4"),  # a float's noise
        ({"cost_total": 0}, "0"),
        ({"cost_total": -0.5}, "-0.5"),
        ({"cost_total": "2.80"}, "2.8"),
        ({"cost_total": None}, "0.00135"),
        ({"cost_total": None, "cost_estimate_nano_usd": 1}, "0.000000001"),
        ({"cost_total": 99999999999}, "99999999999"),
        ({"cost_total": "1e-1"}, "0.1"),
    ],
)
async def test_what_is_paid_is_the_total(roots: ssl.SSLContext, given: dict[str, Any], usd: str) -> None:
    page, _ = await read(told(EVENT | given), roots)
    assert isinstance(page, BillPage)
    assert page.events[0].usd == Decimal(usd)


async def test_a_moment_is_one_of_utc_whatever_its_offset(roots: ssl.SSLContext) -> None:
    """PostgreSQL takes no offset with a fraction of a second."""
    page, _ = await read(told(EVENT | {"timestamp": "2026-10-15T10:30:45+00:59:59.999999"}), roots)
    assert isinstance(page, BillPage)
    assert page.events[0].billed_at.isoformat() == "2026-10-15T09:30:45.000001+00:00"


async def test_units_price_and_payer_may_be_missing(roots: ssl.SSLContext) -> None:
    bare = {name: EVENT[name] for name in ("request_id", "endpoint_id", "timestamp", "cost_total")}
    page, _ = await read(told(bare | {"output_units": None}), roots)
    assert isinstance(page, BillPage)
    assert (page.events[0].units, page.events[0].unit_price_usd, page.events[0].paid_with) == (None, None, None)


@pytest.mark.parametrize(
    "act",
    [
        answer(200, b"<html>"),
        answer(200, []),
        answer(200, {"billing_events": None}),
        answer(200, b'{"billing_events": [{"cost_total": NaN}], "has_more": false}'),
        told(has_more=True),
        told(has_more="yes", next_cursor="Mg=="),
        told(has_more=True, next_cursor=7),
        *(
            told(EVENT, EVENT | {name: wrong})
            for name, wrong in (
                ("request_id", None),
                ("request_id", "a\0b"),
                ("request_id", "x" * 301),
                ("request_id", "\ud800"),
                ("endpoint_id", ""),
                ("endpoint_id", "\udfff"),
                ("timestamp", "2026-10-15T10:30:45"),
                ("timestamp", 1760524245),
                ("timestamp", "0001-01-01T00:00:00+14:00"),
                ("cost_total", "free"),
                ("cost_total", "1_4"),
                ("cost_total", " 1.4"),
                ("cost_total", "99999999999.9999999999"),
                ("cost_total", True),
                ("cost_total", 10**11),
                ("output_units", {}),
            )
        ),
        answer(200, b'{"billing_events": [{"cost_total": 1e999999999}], "has_more": false}'),
        told({name: value for name, value in EVENT.items() if not name.startswith("cost")}),
        answer(200, b"[" * 100_000),
        answer(401, {"error": {"type": "authorization_error"}}),
        answer(500, {"error": {}}),
        answer(429, {"error": {}}, headers={"Retry-After": "7"}),
        Act(then="reset"),
    ],
)
async def test_anything_else_is_trouble_and_tells_no_key(act: Act, roots: ssl.SSLContext) -> None:
    page, _ = await read(act, roots)
    assert isinstance(page, Trouble)
    assert ADMIN_KEY.partition(":")[2] not in repr(page)


async def test_without_an_admin_key_fal_is_not_asked(roots: ssl.SSLContext) -> None:
    page, heard = await read(told(EVENT), roots, admin_key=None)
    assert isinstance(page, Trouble)
    assert heard == []


async def test_a_full_page_is_read(roots: ssl.SSLContext) -> None:
    first = datetime(2026, 10, 2, tzinfo=UTC)
    events = [EVENT | {"timestamp": (first + timedelta(seconds=n)).isoformat()} for n in range(10_000)]
    page, _ = await read(told(*events), roots)
    assert isinstance(page, BillPage)
    assert len(set(page.events)) == 10_000
