"""fal is asked to erase what it keeps of a request; only what says so clearly counts as done."""

import ssl

import pytest
from pydantic import SecretStr

from app.fal import Erased, Platform, Trouble

from .conftest import FAL_KEY
from .wire import REQUEST_ID, Act, answer, serving

ADMIN_KEY = "an-admin-of-fal:with-a-long-enough-secret"
FILES = {"cdn_delete_results": [{"link": "https://v3.fal.media/a.mp4", "exception": None}]}
NOT_FOUND = {"error": {"type": "not_found", "message": "Request not found"}}
ONE_STAYS = {"cdn_delete_results": [*FILES["cdn_delete_results"], {"link": "b", "exception": "AccessDenied"}]}


async def erase(act: Act, roots: ssl.SSLContext, *, admin_key: str | None = ADMIN_KEY) -> tuple[object, list[str]]:
    """What it came to, and the request line and key of each call."""
    async with serving(act) as server:
        platform = Platform(
            fal_key=SecretStr(FAL_KEY),
            admin_key=None if admin_key is None else SecretStr(admin_key),
            api_url=f"{server.url}/v1",
            read_seconds=2,
            tls=roots,
        )
        assert platform.erases_payloads == (admin_key is not None)
        try:
            outcome = await platform.erase_payloads(REQUEST_ID)
        finally:
            await platform.aclose()
    return outcome, [f"{heard.line} {heard.headers['authorization']}" for heard in server.heard]


@pytest.mark.parametrize("act", [answer(200, FILES), answer(200, {}), answer(404, NOT_FOUND)])
async def test_what_is_erased_or_not_there_is_done_and_asked_for_under_the_admin_key(
    act: Act, roots: ssl.SSLContext
) -> None:
    outcome, heard = await erase(act, roots)
    assert outcome == Erased()
    assert heard == [f"DELETE /v1/models/requests/{REQUEST_ID}/payloads HTTP/1.1 Key {ADMIN_KEY}"]


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (answer(200, b"<html>"), 200),
        (answer(404, b"<html>nginx"), 404),
        (answer(401, {"error": {}}), 401),
        (answer(429, {"error": {}}, headers={"Retry-After": "7"}), 429),
        (answer(302, {}, headers={"Location": "http://127.0.0.1:9/"}), 302),
        (answer(503, {"error": {}}), 503),
        (answer(200, ONE_STAYS), 200),
        (Act(then="reset"), None),
    ],
)
async def test_anything_else_is_trouble_and_tells_no_key(act: Act, code: int | None, roots: ssl.SSLContext) -> None:
    outcome, heard = await erase(act, roots)
    assert isinstance(outcome, Trouble)
    assert outcome.code == code
    assert ADMIN_KEY not in repr(outcome)
    assert set(heard) == {f"DELETE /v1/models/requests/{REQUEST_ID}/payloads HTTP/1.1 Key {ADMIN_KEY}"}


async def test_without_an_admin_key_nobody_is_asked(roots: ssl.SSLContext) -> None:
    outcome, heard = await erase(answer(200, FILES), roots, admin_key=None)
    assert isinstance(outcome, Trouble)
    assert heard == []
