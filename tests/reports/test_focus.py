"""`GET /v1/reports/focus.csv`, held against FOCUS 1.2: https://focus.finops.org/focus-specification/v1-2/."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.accounts.callers import COMMAND_LINE
from app.db import Database
from app.ids import new_id
from app.ledger.spend import rebuild_spend
from app.ledger.windows import first_instant
from app.reports.lines import focus, pages
from app.reports.lines.focus import by_entry
from app.reports.lines.pages import Streams, pages_by_booking
from app.reports.period import Period
from app.reports.spend.groups import Groups
from app.reports.spend.report import Asked, read_spend
from app.settings import wheel_zone
from tests.reports.counter import BERLIN, Counter, lines_of, shown, total
from tests.reports.history import CHARGED, Booked, Job, job_id_of, settled, write
from tests.reports.test_sums import YEARS, histories, moments

pytestmark = pytest.mark.asyncio(loop_scope="package")

NOW: Final = datetime(2026, 7, 20, 10, tzinfo=UTC)


def string(text: str) -> bool:
    """4.8: as it was given, and never nothing or spaces alone."""
    return bool(text.strip())


def decimal(text: str) -> bool:
    """4.7: digits, a point, a minus; no sign of a plus, no exponent, no commas."""
    return re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII) is not None


def moment(text: str) -> bool:
    """4.3: in UTC, ISO 8601."""
    return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text, re.ASCII) is not None


def key_values(text: str) -> bool:
    """4.5: an object, whose values are no objects and no lists."""
    found = json.loads(text)
    return isinstance(found, dict) and not any(isinstance(value, dict | list) for value in found.values())


@dataclass(frozen=True)
class Rule:
    """What the specification says of a column: the section, whether it may be null, its type, what is allowed."""

    section: str
    level: str
    null: str
    type: Callable[[str], bool]
    allowed: tuple[str, ...] = ()


M, C, R = "mandatory", "conditional", "recommended"
NULL, NOT_NULL = "null", "not null"
CHARGE_CATEGORIES = ("Usage", "Purchase", "Tax", "Credit", "Adjustment")
SERVICE_CATEGORIES = (
    "AI and Machine Learning", "Analytics", "Business Applications", "Compute", "Databases", "Developer Tools",
    "Multicloud", "Identity", "Integration", "Internet of Things", "Management and Governance", "Media", "Migration",
    "Mobile", "Networking", "Security", "Storage", "Web", "Other",
)  # fmt: skip

# Sections of chapter 3 are its 57 columns in alphabetical order. Left out are columns of what fal and we do not have:
# availability zones and regions, capacity reservations, commitment discounts, negotiated prices, other currencies,
# several types of accounts, invoices' numbers; and unit prices with what goes with them (3.27, 3.32, 3.51, 3.52): ours
# are a sum for the first seconds and so much for each further one.
RULES: Final[dict[str, Rule]] = {
    "BilledCost": Rule("3.2", M, NOT_NULL, decimal),
    "BillingAccountId": Rule("3.3", M, NOT_NULL, string),
    "BillingAccountName": Rule("3.4", M, NULL, string),
    "BillingCurrency": Rule("3.6", M, NOT_NULL, string, ("USD",)),
    "BillingPeriodEnd": Rule("3.7", M, NOT_NULL, moment),
    "BillingPeriodStart": Rule("3.8", M, NOT_NULL, moment),
    "ChargeCategory": Rule("3.11", M, NOT_NULL, string, CHARGE_CATEGORIES),
    "ChargeClass": Rule("3.12", M, NULL, string, ("Correction",)),
    "ChargeDescription": Rule("3.13", M, NULL, string),
    "ChargeFrequency": Rule("3.14", R, NOT_NULL, string, ("One-Time", "Recurring", "Usage-Based")),
    "ChargePeriodEnd": Rule("3.15", M, NOT_NULL, moment),
    "ChargePeriodStart": Rule("3.16", M, NOT_NULL, moment),
    "ConsumedQuantity": Rule("3.24", C, NULL, decimal),
    "ConsumedUnit": Rule("3.25", C, NULL, string, ("Seconds",)),
    "ContractedCost": Rule("3.26", M, NOT_NULL, decimal),
    "EffectiveCost": Rule("3.28", M, NOT_NULL, decimal),
    "InvoiceIssuerName": Rule("3.30", M, NOT_NULL, string),
    "ListCost": Rule("3.31", M, NOT_NULL, decimal),
    "PricingCategory": Rule("3.33", C, NULL, string, ("Standard", "Dynamic", "Committed", "Other")),
    "PricingQuantity": Rule("3.38", M, NULL, decimal),
    "PricingUnit": Rule("3.39", M, NULL, string, ("Seconds",)),
    "ProviderName": Rule("3.40", M, NOT_NULL, string),
    "PublisherName": Rule("3.41", M, NOT_NULL, string),
    "ResourceId": Rule("3.44", C, NULL, string),
    "ResourceType": Rule("3.46", C, NULL, string),
    "ServiceCategory": Rule("3.47", M, NOT_NULL, string, SERVICE_CATEGORIES),
    "ServiceName": Rule("3.48", M, NOT_NULL, string),
    "ServiceSubcategory": Rule("3.49", R, NOT_NULL, string, ("Generative AI",)),
    "SkuId": Rule("3.50", C, NULL, string),
    "SkuPriceId": Rule("3.53", C, NULL, string),
    "SubAccountId": Rule("3.54", C, NULL, string),
    "SubAccountName": Rule("3.55", C, NULL, string),
    "Tags": Rule("3.57", C, NULL, key_values),
}
# 3.24, 3.25, 3.33, 3.38, 3.39, 3.50, 3.53: not null for usage that is no correction.
NOT_NULL_FOR_USAGE: Final = (
    "ConsumedQuantity", "ConsumedUnit", "PricingCategory", "PricingQuantity", "PricingUnit", "SkuId", "SkuPriceId",
)  # fmt: skip
MANDATORY: Final = 21
"""How many columns 1.2 has that must be there whatever is billed."""


def require_conformant(lines: list[dict[str, str]]) -> None:
    """Every line, held against RULES and what the specification says of columns together."""
    for line in lines:
        for name, rule in RULES.items():
            value = line[name]
            assert rule.null == NULL if value == "" else rule.type(value), (rule.section, name, value)
            assert not value or not rule.allowed or value in rule.allowed, (rule.section, name, value)
        if line["ChargeCategory"] == "Usage" and line["ChargeClass"] != "Correction":
            assert all(line[name] for name in NOT_NULL_FOR_USAGE), line
            assert line["BillingPeriodStart"] <= line["ChargePeriodStart"], line
            assert line["ChargePeriodEnd"] <= line["BillingPeriodEnd"], line
        else:
            assert line["ChargePeriodEnd"] <= line["BillingPeriodStart"], "3.12: of a billing period before this one"
        assert line["ChargePeriodStart"] < line["ChargePeriodEnd"]
        assert line["BillingPeriodStart"] <= line["x_BookedAt"][:19] + "Z" < line["BillingPeriodEnd"]
        # 3.26, 3.31: without unit prices both are what is billed; 3.28: nothing is paid beforehand
        assert line["ContractedCost"] == line["ListCost"] == line["EffectiveCost"] == line["BilledCost"]


async def test_every_mandatory_column_is_there_and_all_in_the_order_of_4_1() -> None:
    names = [*focus.COLUMNS]
    ours = [name for name in names if name.startswith("x_")]
    assert names == [*RULES, *ours]
    assert [*RULES] == sorted(RULES)
    assert ours == sorted(ours)
    assert all(re.fullmatch(r"(x_)?[A-Z][A-Za-z]{1,47}", name) for name in names)
    assert sum(rule.level == M for rule in RULES.values()) == MANDATORY
    sections = [int(rule.section.partition(".")[2]) for rule in RULES.values()]
    assert sections == sorted(sections), "chapter 3 is in alphabetical order"


async def test_a_settled_job_is_one_line_of_usage(counter: Counter) -> None:
    made_at, booked_at = datetime(2026, 5, 31, 21, 59, tzinfo=UTC), datetime(2026, 5, 31, 22, 4, tzinfo=UTC)
    mia = counter.people["mia"]
    job = settled(
        counter.by("mia", end_user="42", tags={"film": "ü"}), booked_at, "2.80", seconds="10", held_at=made_at
    )
    await counter.fill(job, now=NOW)
    assert await counter.lines("focus.csv?month=2026-05") == []
    answer = await counter.ask("focus.csv?month=2026-06")
    assert answer.headers["content-disposition"] == 'attachment; filename="focus_2026-06-01_2026-07-01.csv"'
    (line,) = lines = lines_of(answer.text)
    require_conformant(lines)
    assert {name: line[name] for name in line if not name.endswith("Name") and name != "x_EntryId"} == {
        "BilledCost": "2.80",
        "BillingAccountId": "falgate",
        "BillingCurrency": "USD",
        "BillingPeriodEnd": "2026-06-30T22:00:00Z",
        "BillingPeriodStart": "2026-05-31T22:00:00Z",
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargeDescription": "kling-2.1-master, 10 s of video",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": "2026-06-01T22:00:00Z",
        "ChargePeriodStart": "2026-05-31T22:00:00Z",
        "ConsumedQuantity": "10",
        "ConsumedUnit": "Seconds",
        "ContractedCost": "2.80",
        "EffectiveCost": "2.80",
        "ListCost": "2.80",
        "PricingCategory": "Standard",
        "PricingQuantity": "10",
        "PricingUnit": "Seconds",
        "ResourceId": shown("job", job_id_of(0, job)),
        "ResourceType": "Video",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "SkuId": "x",
        "SkuPriceId": shown("price", UUID(int=1)),
        "SubAccountId": mia.team_id,
        "Tags": '{"film": "ü"}',
        "x_BookedAt": "2026-05-31T22:04:00.000000Z",
        "x_EndUser": "42",
        "x_EntryKind": "settle",
        "x_FalRequestId": "",
        "x_FalUnits": "",
        "x_JobCreatedAt": "2026-05-31T21:59:00.000000Z",
        "x_JobId": shown("job", job_id_of(0, job)),
        "x_KeyId": mia.key_id,
        "x_Model": "kling-2.1-master",
        "x_Note": "",
        "x_UserId": mia.user_id,
    }
    assert {line[name] for name in ("ProviderName", "PublisherName", "InvoiceIssuerName")} == {"fal"}


async def close(db: Database, month: date, *, at: datetime, reopened_at: datetime | None = None) -> None:
    following = (month + timedelta(days=32)).replace(day=1)
    async with db.plain() as plain:
        await plain.execute(
            "INSERT INTO closed_months (id, month, starts_at, ends_at, charged_usd, seconds, jobs, succeeded, failed, "
            "canceled, held_usd, held_jobs, closed_at, closed_by, reopened_at) "
            "VALUES ($1, $2, $3, $4, 0, 0, 0, 0, 0, 0, 0, 0, $5, 'test', $6)",
            new_id(at), month, first_instant(month, BERLIN), first_instant(following, BERLIN), at, reopened_at,
        )  # fmt: skip


async def test_what_is_booked_to_a_job_of_a_month_that_was_closed_before_corrects_it(counter: Counter) -> None:
    may = datetime(2026, 5, 20, 10, tzinfo=UTC)
    closed_at, reopened_at = datetime(2026, 6, 5, tzinfo=UTC), datetime(2026, 7, 5, tzinfo=UTC)

    def later(month: int, day: int, usd: str, kind: str = "adjustment") -> Booked:
        return Booked(kind, datetime(2026, month, day, 10, tzinfo=UTC), Decimal(usd), Decimal(0))

    of_may = settled(counter.by("mia"), may, "1.40")
    free = Job(counter.by("mia"), (of_may.entries[0], Booked("void", may, Decimal("1.4"), Decimal(5), "failed")))
    of_june = settled(counter.by("mia"), datetime(2026, 6, 6, 10, tzinfo=UTC), "1.40", held_at=may)
    await counter.fill(
        Job(of_may.maker, (*of_may.entries, later(5, 25, "-0.01"), later(6, 4, "-0.02"), later(6, 6, "-0.04"),
                           later(6, 7, "0.08", "overage"), later(7, 6, "-0.16"))),
        Job(free.maker, (*free.entries, later(6, 8, "0.32", "overage"))),
        Job(of_june.maker, (*of_june.entries, later(6, 9, "-0.64"))),
        now=NOW,
    )  # fmt: skip
    await close(counter.gateway.wiring.db, date(2026, 5, 1), at=closed_at, reopened_at=reopened_at)
    lines = await counter.lines("focus.csv?since=2026-05-01&until=2026-08-01")
    require_conformant(lines)
    corrections = {line["BilledCost"]: line for line in lines if line["ChargeClass"]}
    assert [*corrections] == ["-0.04", "0.08", "0.32"]
    for line in corrections.values():
        assert (line["ChargePeriodStart"], line["ChargePeriodEnd"]) == ("2026-05-19T22:00:00Z", "2026-05-20T22:00:00Z")
        assert line["BillingPeriodStart"] == "2026-05-31T22:00:00Z", "of the month that it is booked in"
    june = await counter.lines("focus.csv?month=2026-06")
    assert [line for line in lines if line["BillingPeriodStart"] == "2026-05-31T22:00:00Z"] == june


async def test_what_a_closed_month_pushed_into_the_next_corrects_it(counter: Counter) -> None:
    may, june = datetime(2026, 5, 20, 10, tzinfo=UTC), first_instant(date(2026, 6, 1), BERLIN)
    job = settled(counter.by("mia"), may, "1.40")
    moved = Booked("adjustment", june, Decimal("-0.01"), Decimal(0))
    await counter.fill(Job(job.maker, (*job.entries, moved)), now=NOW)
    assert [line["ChargeClass"] for line in await counter.lines("focus.csv?month=2026-06")] == [""]
    await close(counter.gateway.wiring.db, date(2026, 5, 1), at=datetime(2026, 6, 5, tzinfo=UTC))
    assert [line["ChargeClass"] for line in await counter.lines("focus.csv?month=2026-06")] == ["Correction"]


async def test_texts_of_others_are_no_formulas(counter: Counter) -> None:
    maker = counter.by("mia", end_user="=cmd()", model="+1", tags={"=": "=1"})
    await counter.fill(settled(maker, datetime(2026, 7, 4, tzinfo=UTC), "1"), now=NOW)
    (line,) = await counter.lines("focus.csv")
    assert (line["x_EndUser"], line["x_Model"], line["ChargeDescription"]) == ("'=cmd()", "'+1", "'+1, 5 s of video")


async def test_each_role_is_charged_what_its_report_of_spend_says(counter: Counter) -> None:
    makers = {"mia": "1", "lead": "2", "stranger": "4", "finance": "8"}
    july = datetime(2026, 7, 4, 10, tzinfo=UTC)
    await counter.fill(*(settled(counter.by(who), july, usd) for who, usd in makers.items()), now=NOW)
    for who, usd in (("mia", 1), ("lead", 3), ("stranger", 4), ("finance", 15), ("admin", 15), ("ADMIN_KEY", 15)):
        assert total(await counter.lines("focus.csv", who), "BilledCost") == usd
        assert Decimal((await counter.ask("spend", who)).json()["total"]["charged_usd"]) == usd


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, list[Job], Period, int]:
    name = draw(st.sampled_from([*YEARS]))
    at = moments(wheel_zone(name), YEARS[name])
    since, until = sorted((draw(at), draw(at)))
    everything = datetime(YEARS[name], 1, 1, tzinfo=UTC), datetime(YEARS[name] + 1, 3, 1, tzinfo=UTC)
    period = Period(*draw(st.sampled_from([(since, until + timedelta(seconds=1)), everything])))
    return name, draw(histories(at)), period, draw(st.integers(1, 4))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(question=questions())
async def test_the_sum_is_what_was_charged_whatever_the_history_and_the_pages(
    counter: Counter, question: tuple[str, list[Job], Period, int]
) -> None:
    name, history, period, page_lines = question
    db, zone = counter.gateway.wiring.db, wheel_zone(name)
    await write(db, history)
    await rebuild_spend(db, zone=zone)
    assert period.until is not None
    asked = await by_entry(
        db, period, actor=COMMAND_LINE, until=period.until, zone=zone, account="falgate"
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PAGE_LINES", page_lines)
        patch.setattr(pages, "_LONGEST_SLICE", timedelta(days=40))
        text = b"".join([page async for page in pages_by_booking(db, Streams(), asked, header=focus.HEADER)])
    lines = lines_of(text.decode())
    told = sorted((line["x_BookedAt"], line["x_EntryKind"], Decimal(line["BilledCost"])) for line in lines)
    assert told == sorted(
        (f"{entry.at:%Y-%m-%dT%H:%M:%S.%fZ}", entry.kind, entry.usd)
        for job in history
        for entry in job.entries
        if entry.kind in CHARGED and period.since <= entry.at < period.until
    )
    assert [line["x_BookedAt"] for line in lines] == sorted(line["x_BookedAt"] for line in lines)
    spent = await read_spend(
        db, Asked(period, Groups(), zone, period.until), actor=COMMAND_LINE, take=lambda _: None
    )  # fmt: skip
    assert total(lines, "BilledCost") == spent.charged_usd
    for line in lines:
        booked, start, end = (
            line[column].rstrip("Z") for column in ("x_BookedAt", "ChargePeriodStart", "ChargePeriodEnd")
        )
        assert start <= booked < end
        local = datetime.fromisoformat(start + "+00:00").astimezone(zone)
        assert first_instant(local.date(), zone) == datetime.fromisoformat(start + "+00:00")
