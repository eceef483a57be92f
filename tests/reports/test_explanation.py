"""What one job cost, and why: as its caller, its lead and finance read it."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from app.catalogue.prices import Price
from app.embedded import EmbeddedPostgres
from app.fal import BillableUnits, Completed, NotSent, RefusedUs, Unknown
from app.ids import new_id
from app.jobs.ends.ending import HELD_COLUMNS, held_of
from app.ledger.locks import keep_quotas_still
from app.ledger.settles import Extra, book_extra, lock_windows
from app.reports.explanation.words import arithmetic
from tests.conftest import settings_for
from tests.gateway import ADMIN, Person
from tests.jobs.hand import Hand, accepted, by_hand, failed, rest, succeeded

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "nobody but mia reads this"
DONE = Completed(None, None)
TEN = BillableUnits("10", Decimal(10))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def one_hand(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Hand]:
    postgres.create_database("explanations", template)
    async with by_hand(settings_for(postgres.dsn("explanations"))) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def hand(one_hand: Hand) -> AsyncIterator[Hand]:
    """The books agree after each test; then its jobs are gone, its quotas, and what fal was to say."""
    quotas = [row["id"] for row in await one_hand.sql("SELECT id FROM quotas")]
    yield one_hand
    await one_hand.assert_books_agree()
    one_hand.fal.script.clear()
    await one_hand.sql("DELETE FROM quota_usage WHERE NOT quota_id = ANY($1)", quotas)
    await one_hand.sql("DELETE FROM quotas WHERE NOT id = ANY($1)", quotas)
    async with one_hand.gateway.wiring.db.begin_plain() as plain:
        await plain.execute(
            "SET LOCAL session_replication_role = replica;"
            " TRUNCATE jobs, quota_usage, spend_daily, spend_monthly, fal_bills CASCADE"
        )


async def read(hand: Hand, job_id: str, who: Person | None = None, query: str = "") -> dict[str, Any]:
    headers = (who or hand.person).headers
    answer = await hand.gateway.client.get(f"/v1/jobs/{job_id}/entries{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    assert SECRET not in answer.text
    return dict(answer.json())


async def explain(hand: Hand, job_id: str, who: Person | None = None) -> tuple[dict[str, Any], dict[str, str]]:
    """The explanation, and why each kind of entry was booked."""
    page = await read(hand, job_id, who)
    return page["explanation"], {entry["kind"]: entry["why"] for entry in page["data"]}


async def end(hand: Hand, result: object, **fields: Any) -> str:
    """A job that fal has told the end of."""
    job_id = await hand.submit(SECRET, **fields)
    await hand.send()
    hand.fal.answer("status", DONE)
    hand.fal.answer("result", result)
    await hand.check()
    return job_id


async def book(hand: Hand, job_id: str, extra: Extra) -> None:
    """What reconciling books."""
    async with hand.gateway.wiring.db.begin_plain() as plain:
        await keep_quotas_still(plain)
        held = held_of(await plain.fetchrow(f"SELECT {HELD_COLUMNS} FROM jobs j WHERE j.id = $1", job_id[4:]))  # noqa: S608
        windows = await lock_windows(plain, set(held.quota_usage_ids))
        await book_extra(plain, held, extra, windows=windows, now=hand.clock(), zone=hand.gateway.wiring.settings.zone)
        await plain.execute("UPDATE jobs SET charged_usd = charged_usd + $2 WHERE id = $1", job_id[4:], extra.usd)


async def test_a_charged_job_is_explained_from_its_quote_to_the_last_cent(hand: Hand) -> None:
    hand.fal.answer("submit", accepted("of-ten-seconds"))
    job_id = await end(hand, succeeded(TEN), duration="10")
    job = await hand.job(job_id)
    page = await read(hand, job_id)
    settle, hold = page["data"]
    told = page["explanation"]
    assert told["summary"] == "2.80 USD charged, as quoted."
    assert (told["charged_usd"], told["held_usd"], told["status"]) == ("2.80", "0.00", "succeeded")
    assert told["asked"] == {
        "at": job["created_at"],
        "user_id": hand.person.user_id,
        "key_id": hand.person.key_id,
        "team_id": hand.person.team_id,
        "team": "team 2",
        "team_archived_at": None,
    }
    assert told["quote"] == {
        "quoted_usd": "2.80",
        "seconds": 10,
        "model": "kling-2.1-master",
        "endpoint": job["endpoint"],
        "priced_input": {},
    }
    assert told["price"] == {
        "price_id": job["price_id"],
        "when": {},
        "base_seconds": "5.00",
        "base_usd": "1.40",
        "usd_per_second": "0.28",
        "starts_at": "2026-01-01T00:00:00Z",
        "arithmetic": "1.40 for the first 5 s + 5 s × 0.28 = 2.80",
    }
    (attempt,) = told["fal"].pop("attempts")
    assert told["fal"] == {"request_id": "of-ten-seconds", "billed_units": "10.00", "billed_usd": None}
    assert (attempt["outcome"], attempt["fal_request_id"]) == ("accepted", "of-ten-seconds")
    assert datetime.fromisoformat(attempt["sent_at"]) >= datetime.fromisoformat(job["created_at"])
    in_flight, of_day = told["quotas"]
    assert of_day["window_ends_at"] > of_day["window_starts_at"]
    named = ("scope", "scope_id", "metric", "window", "maximum", "requested", "held", "used", "deleted_at")
    assert [of_day[name] for name in named] == [
        "organization", None, "usd", "day", "1000.00", "2.80", "0.00", "2.80", None,
    ]  # fmt: skip
    assert [in_flight[name] for name in named] == [
        "organization", None, "in_flight", None, "1000.00", "1.00", "0.00", "0.00", None,
    ]  # fmt: skip
    assert in_flight["window_starts_at"] is None
    assert hold["why"] == "Promised when the job was accepted: 1.40 for the first 5 s + 5 s × 0.28 = 2.80."
    assert hold["source"] == "job"
    assert settle["why"] == "Charged as quoted: fal billed what was quoted."
    assert settle["source"] == settle["resolves_id"] == hold["id"]


async def test_what_is_under_way_is_held(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    told, _ = await explain(hand, job_id)
    assert told["summary"] == "1.40 USD held until the job ends; nothing has been charged."
    assert (told["charged_usd"], told["held_usd"]) == (None, "1.40")
    assert sorted((quota["metric"], quota["held"], quota["used"]) for quota in told["quotas"]) == [
        ("in_flight", "1.00", "0.00"),
        ("usd", "1.40", "0.00"),
    ]


async def test_each_metric_tells_what_the_job_took_of_it(hand: Hand) -> None:
    who = await hand.gateway.make_person()
    for metric in ("jobs", "seconds"):
        await hand.gateway.set_quota(50, metric, "month", scope="user", scope_id=who.user_id)
    await hand.gateway.set_quota(500, "seconds", "lifetime", scope="key")
    mine = Hand(hand.gateway, hand.fal, hand.clock, who)
    job_id = await mine.submit()

    async def taken() -> set[tuple[str, ...]]:
        quotas = (await explain(mine, job_id))[0]["quotas"]
        names = ("scope", "metric", "requested", "held", "used")
        return {tuple(quota[name] for name in names) for quota in quotas if quota["scope"] != "organization"}

    jobs = ("user", "jobs", "1.00", "0.00", "1.00")
    assert await taken() == {
        jobs,
        ("user", "seconds", "5.00", "5.00", "0.00"),
        ("key", "seconds", "5.00", "5.00", "0.00"),
    }
    quotas = (await explain(mine, job_id))[0]["quotas"]
    assert {quota["scope_id"] for quota in quotas} == {None, who.user_id}
    await mine.cancel(job_id)
    assert await taken() == {
        jobs,
        ("user", "seconds", "5.00", "0.00", "0.00"),
        ("key", "seconds", "5.00", "0.00", "0.00"),
    }


async def test_a_voided_job_says_what_was_given_back_and_why(hand: Hand) -> None:
    told, why = await explain(hand, await end(hand, failed(503)))
    assert told["summary"] == "Nothing charged, 1.40 USD given back (fal answered 503: never billed)."
    assert told["charged_usd"] == "0.00"
    assert why["void"] == "Given back, nothing was charged: fal answered 503: never billed."
    cancelled = await hand.submit()
    await hand.cancel(cancelled)
    _, why = await explain(hand, cancelled)
    by = f"{hand.person.user_id}/{hand.person.key_id}"
    assert why["void"] == f"Given back, nothing was charged, by {by}: cancelled while queued."


async def test_what_fal_billed_otherwise_or_did_not_say_is_named(hand: Hand) -> None:
    told, why = await explain(hand, await end(hand, succeeded(BillableUnits("7", Decimal(7)))))
    assert told["summary"] == "1.40 USD charged, as quoted."
    assert told["fal"]["billed_units"] == "7.00"
    assert why["settle"] == (
        "Charged as quoted: fal billed 7 units, 5 seconds were quoted."
        " Reconciling with fal's bill corrects it, if that says otherwise."
    )
    _, why = await explain(hand, await end(hand, succeeded(None)))
    assert why["settle"] == "Charged as quoted: fal did not say what it billed."


@pytest.mark.parametrize(
    ("resolution", "summary", "kind", "why"),
    [
        (
            {"outcome": "charge", "amount_usd": "0.70"},
            "0.70 USD charged, instead of the 1.40 quoted.",
            "settle",
            "Charged 0.70 of the 1.40 held, by ADMIN_KEY: looked it up.",
        ),
        (
            {"outcome": "charge"},
            "1.40 USD charged, as quoted.",
            "settle",
            "Charged as quoted, by ADMIN_KEY: looked it up.",
        ),
        (
            {"outcome": "void"},
            "Nothing charged, 1.40 USD given back (looked it up).",
            "void",
            "Given back, nothing was charged, by ADMIN_KEY: looked it up.",
        ),
    ],
)  # fmt: skip
async def test_a_job_that_an_admin_resolved_names_who_and_their_note(
    hand: Hand, resolution: dict[str, str], summary: str, kind: str, why: str
) -> None:
    job_id = await hand.lose(SECRET)
    told, _ = await explain(hand, job_id)
    assert told["summary"] == ("1.40 USD held until fal or an admin says what became of it; nothing has been charged.")
    assert [attempt["outcome"] for attempt in told["fal"]["attempts"]] == ["unknown"]
    assert await hand.resolve(job_id, **resolution) == 200
    told, whys = await explain(hand, job_id)
    assert told["summary"] == summary
    assert whys[kind] == why


async def test_an_overage_names_the_request_that_fal_billed_beside_the_job(hand: Hand) -> None:
    job_id = await hand.submit(SECRET)

    async def resolve() -> None:
        await hand.lose_leases()
        assert await hand.resolve(job_id, outcome="void") == 200

    hand.fal.answer("submit", accepted("stray"))
    hand.fal.during["submit"] = resolve
    await hand.begin_sending()
    await rest(hand.rooms.dispatcher.loop)
    hand.fal.during.clear()
    hand.fal.answer("status", DONE)
    await hand.follow_strays()
    page = await read(hand, job_id)
    told, overage = page["explanation"], page["data"][0]
    assert (overage["kind"], overage["source"]) == ("overage", "stray")
    assert overage["why"] == "Charged beside the hold: a fal request that was not the job's current one."
    assert told["summary"] == (
        "Nothing charged, 1.40 USD given back (looked it up), and 1.40 more for a request at fal that was no longer"
        " its own: 1.40 USD in all."
    )
    assert told["charged_usd"] == "1.40"
    assert {quota["used"] for quota in told["quotas"] if quota["metric"] == "usd"} == {"1.40"}


async def test_an_adjustment_says_which_way_it_goes_and_agrees_with_fals_bill(hand: Hand) -> None:
    hand.fal.answer("submit", accepted("billed-otherwise"))
    job_id = await end(hand, succeeded())
    await hand.sql(
        "INSERT INTO fal_bills (fal_request_id, billed_at, n, endpoint, usd, read_at) VALUES"
        " ('billed-otherwise', now(), 0, 'e', 0.90, now()), ('billed-otherwise', now(), 1, 'e', 0.10, now())"
    )
    extra = Extra(kind="adjustment", source="bill 1", usd=Decimal("-0.40"), seconds=Decimal(0), note="fal billed 1.00")
    await book(hand, job_id, extra)
    told, why = await explain(hand, job_id)
    assert why["adjustment"] == "Taken off what was charged: fal billed 1.00."
    assert told["summary"] == "1.40 USD charged, as quoted, and 0.40 taken off by a correction: 1.00 USD in all."
    assert told["charged_usd"] == told["fal"]["billed_usd"] == told["fal"]["attempts"][0]["billed_usd"] == "1.00"
    assert {quota["used"] for quota in told["quotas"] if quota["metric"] == "usd"} == {"1.00"}
    by_finance = Extra(
        kind="adjustment", source="note", usd=Decimal("0.25"), seconds=Decimal(0), note="agreed", by="user_f"
    )
    await book(hand, job_id, by_finance)
    page = await read(hand, job_id)
    assert page["data"][0]["why"] == "Added to what was charged, by user_f: agreed."


async def test_what_a_closed_month_could_not_take_says_so(hand: Hand) -> None:
    job_id = await hand.at_fal("running")
    await hand.sql("UPDATE books SET open_since = now() + interval '2 days'")
    hand.fal.answer("status", DONE)
    hand.fal.always["status", (await hand.job(job_id))["fal_request_id"]] = DONE
    await hand.check()
    await hand.sql("UPDATE books SET open_since = '-infinity'")
    page = await read(hand, job_id)
    booked_at, made_at = page["data"][0]["created_at"][:10], page["data"][1]["created_at"][:10]
    assert page["data"][0]["why"] == (
        "Charged as quoted: fal billed what was quoted."
        f" Booked on {booked_at} (UTC), since the month of {made_at} was closed."
    )
    assert booked_at > made_at


async def test_what_fal_did_not_take_says_nothing_of_why(hand: Hand) -> None:
    """That fal refused our key or our balance is the operator's to know."""
    job_id = await hand.submit()
    for answer in (RefusedUs(403, "User is locked", None), NotSent("no")):
        hand.fal.answer("submit", answer)
        await hand.send()
    hand.fal.answer("submit", Unknown("reset", None))
    await hand.send()
    told, _ = await explain(hand, job_id)
    outcomes = [attempt["outcome"] for attempt in told["fal"]["attempts"]]
    assert outcomes == ["not_taken", "not_taken", "unknown"]
    assert "locked" not in json.dumps(told)


async def test_a_deleted_quota_and_an_archived_team_are_still_named(hand: Hand) -> None:
    who = await hand.gateway.make_person()
    quota_id = await hand.gateway.set_quota("9.00", scope="team", scope_id=who.team_id)
    mine = Hand(hand.gateway, hand.fal, hand.clock, who)
    job_id = await end(mine, succeeded())
    await hand.gateway.admin("DELETE", f"/v1/quotas/{quota_id}")
    await hand.gateway.admin("PATCH", f"/v1/teams/{who.team_id}", archived=True)
    finance = await hand.gateway.make_person("finance")
    told, _ = await explain(hand, job_id, finance)
    (deleted,) = [quota for quota in told["quotas"] if quota["quota_id"] == quota_id]
    assert deleted["deleted_at"] is not None
    assert (deleted["scope_id"], deleted["maximum"], deleted["used"]) == (who.team_id, "9.00", "1.40")
    assert told["asked"]["team_archived_at"] is not None


async def test_an_erased_payload_takes_nothing_from_the_explanation(hand: Hand) -> None:
    job_id = await end(hand, succeeded())
    before, why_before = await explain(hand, job_id)
    assert before["payload_erased_at"] is None
    assert await hand.forget(job_id) == 204
    after, why_after = await explain(hand, job_id)
    assert after.pop("payload_erased_at") > before["asked"]["at"]
    assert (after, why_after) == ({name: before[name] for name in after}, why_before)


async def test_the_input_that_chose_the_price_is_shown_and_no_other_and_a_lost_price_says_nothing(hand: Hand) -> None:
    endpoint = (await hand.job(await hand.submit(SECRET)))["endpoint"]
    price = {"base_seconds": 5, "base_usd": "2.00", "usd_per_second": "0.40"}
    await hand.sql("UPDATE prices SET starts_at = 'infinity' WHERE endpoint = $1", endpoint)
    await hand.gateway.admin("POST", "/v1/prices", endpoint=endpoint, when={"aspect_ratio": "9:16"}, **price)
    job_id = await hand.submit(SECRET, aspect_ratio="9:16")
    told, _ = await explain(hand, job_id)
    assert told["quote"]["priced_input"] == told["price"]["when"] == {"aspect_ratio": "9:16"}
    assert told["price"]["arithmetic"] == "2.00 for the first 5 s = 2.00"
    await hand.sql("DELETE FROM prices WHERE \"when\" <> '{}'")
    await hand.sql("UPDATE prices SET starts_at = '2026-01-01' WHERE endpoint = $1", endpoint)
    told, why = await explain(hand, job_id)
    assert (told["price"], told["quote"]["priced_input"], told["quote"]["quoted_usd"]) == (None, {}, "2.00")
    assert why["hold"] == "Promised as it was quoted."


async def test_only_the_first_page_is_explained(hand: Hand) -> None:
    job_id = await end(hand, succeeded())
    first = await read(hand, job_id, query="?limit=1")
    assert first["explanation"]["summary"] == "1.40 USD charged, as quoted."
    second = await read(hand, job_id, query=f"?limit=1&cursor={first['next_cursor']}")
    assert [entry["kind"] for entry in (*first["data"], *second["data"])] == ["settle", "hold"]
    assert (second["explanation"], second["next_cursor"]) == (None, None)


async def test_whoever_may_see_the_job_sees_why_and_nobody_else(hand: Hand) -> None:
    job_id = await end(hand, succeeded())
    lead = await hand.gateway.make_person("lead", hand.person.team_id)
    finance = await hand.gateway.make_person("finance")
    own = await read(hand, job_id)
    assert await read(hand, job_id, lead) == await read(hand, job_id, finance) == own
    stranger = await hand.gateway.make_person()
    for headers, status in ((stranger.headers, 404), (ADMIN, 403)):
        answer = await hand.gateway.client.get(f"/v1/jobs/{job_id}/entries", headers=headers)
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("base_seconds", "base_usd", "usd_per_second", "seconds", "reckoned"),
    [
        ("5", "1.40", "0.28", "5", "1.40 for the first 5 s = 1.40"),
        ("5", "1.40", "0.28", "2.5", "1.40 for the first 5 s = 1.40"),
        ("5", "1.40", "0.28", "7.5", "1.40 for the first 5 s + 2.5 s × 0.28 = 2.10"),
        ("0", "0", "0.10", "8", "8 s × 0.10 = 0.80"),
        ("0", "0.50", "0", "8", "0.50 for any length = 0.50"),
        ("0", "0.50", "0.10", "8", "0.50 for any length + 8 s × 0.10 = 1.30"),
        ("5", "1", "0", "10", "1.00 for the first 5 s = 1.00"),
        ("0", "0", "0", "5", "0.00 for any length = 0.00"),
        ("0", "0", "0.000000001", "10", "10 s × 0.000000001 = 0.00000001"),
    ],
)
async def test_the_arithmetic_is_a_sentence(
    hand: Hand, base_seconds: str, base_usd: str, usd_per_second: str, seconds: str, reckoned: str
) -> None:
    price = Price(
        id=new_id(hand.clock()),
        endpoint="e",
        when={},
        base_seconds=Decimal(base_seconds),
        base_usd=Decimal(base_usd),
        usd_per_second=Decimal(usd_per_second),
        starts_at=hand.clock(),
    )
    assert arithmetic(price, Decimal(seconds)) == reckoned
