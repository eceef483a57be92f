"""On a million jobs, every statement that runs per request or per second finds its rows by an index.

Postgres explains each, with its own values, before it runs: `pytest -m slow -s tests/ledger/test_plans.py`.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import asyncpg
import pytest

from app.accounts.callers import COMMAND_LINE, Caller, Role, acting
from app.compat.line import Line
from app.compat.repeats import Repeats
from app.compat.waits import Wait
from app.db import Database
from app.embedded import EmbeddedPostgres
from app.fal import Completed, InProgress, LogLine, Succeeded
from app.files import stored as files
from app.files.owners import Owner
from app.ids import new_id
from app.jobs.at_fal.breaker import Limits
from app.jobs.ends.cancel import cancel_job
from app.jobs.ends.ended import fold_ended
from app.jobs.ends.overdue import end_overdue
from app.jobs.forgetting.erase import erase_payload
from app.jobs.reads.glance import Wanted
from app.jobs.reads.listing import JobFilter, list_jobs
from app.jobs.reads.read import Asked
from app.jobs.routes import content
from app.jobs.states import STATUSES
from app.jobs.submits.estimate import estimate
from app.jobs.unknown.lost_rows import claim_endpoints, read_suspects
from app.ledger.quotas import Holder, applying_to, find_applying
from app.ledger.spend import rebuild_spend
from app.ledger.usage import read_usage
from app.money import ZERO
from app.outputs import rows
from app.problems import NotFound
from app.reports.explanation.explain import explain_job
from app.reports.fal_bill.lists import read_lines
from app.reports.lines.focus import by_entry
from app.reports.lines.jobs import JobsAsked, by_charged, by_created
from app.reports.lines.pages import Pages, Streams, pages_by_booking, pages_by_job
from app.reports.period import Period
from app.reports.refusals.report import read_asked, read_refusals
from app.reports.spend.report import read_asked as read_spend_asked
from app.reports.spend.report import read_spend
from app.settings import wheel_zone
from app.tokens import Grant
from app.web import metrics
from tests.conftest import settings_for
from tests.jobs.hand import TEXT

from .closing import adjust
from .explaining import Explaining, Ran
from .house import House, Someone, id_of, in_transaction
from .test_exactly_once import calling

pytestmark = pytest.mark.slow

JOBS = 1_000_000
OPEN = 5_000
TEAMS, USERS = 20, 1_000
PAGE_BUFFERS = 1_000
NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)  # when the newest seeded job was made

# Ids sort by time: 30 days of jobs, the newest `OPEN` under way. uuid7 from the number of the job. Entries lie in the
# order in which they were booked.
_SEED = f"""
CREATE FUNCTION seeded(n bigint) RETURNS uuid IMMUTABLE LANGUAGE sql AS $$
    SELECT (lpad(to_hex(1775217600000 + n * 2592), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
            || substr(md5(n::text), 4, 15))::uuid
$$;
INSERT INTO teams SELECT md5('team' || n)::uuid, 'seed ' || n, NULL, NULL, now()
    FROM generate_series(1, {TEAMS}) n;
INSERT INTO users SELECT md5('user' || n)::uuid, md5('team' || n % {TEAMS} + 1)::uuid, 'u', NULL, 'member', NULL, NULL,
    now() FROM generate_series(1, {USERS}) n;
INSERT INTO jobs (id, status, model, endpoint, input, tags, end_user, seconds, quoted_usd, held_usd, charged_usd,
                  price_id, quota_usage_ids, user_id, team_id, key_id, attempt_id, fal_request_id, next_check_at,
                  created_at, queued_at, submitted_at, finished_at, output, start_by)
SELECT seeded(n), status, 'kling-2.1-master', 'fal-ai/kling-video/v2.1/master/text-to-video',
       '{{"prompt": "a boat on a lake at dawn, slow pan", "duration": "5", "aspect_ratio": "16:9"}}',
       CASE WHEN abs(hashint8(n + 1)) % 10 = 0 THEN jsonb_build_object('project', 'p' || abs(hashint8(n + 2)) % 50)
            ELSE '{{}}' END,
       CASE WHEN abs(hashint8(n + 3)) % 4 = 0 THEN 'visitor ' || abs(hashint8(n + 4)) % 5000 END, 5, 1.40,
       CASE WHEN is_open THEN 1.40 ELSE 0 END,
       CASE WHEN NOT is_open THEN CASE WHEN status = 'succeeded' THEN 1.40 ELSE 0 END END,
       md5('price')::uuid, ARRAY[md5('usage' || n % {USERS} || '-' || n / 30000)::uuid],
       md5('user' || n % {USERS} + 1)::uuid, md5('team' || (n % {USERS} + 1) % {TEAMS} + 1)::uuid,
       md5('key' || n % {USERS})::uuid, md5('attempt' || n)::uuid,
       CASE WHEN status NOT IN ('queued', 'submitting') THEN 'seed-' || n END,
       CASE WHEN is_open THEN now() + (n % 600 || ' seconds')::interval END,
       to_timestamp(1775217600 + n * 2.592), to_timestamp(1775217600 + n * 2.592), NULL,
       CASE WHEN NOT is_open THEN to_timestamp(1775217600 + n * 2.592 + 60) END,
       CASE WHEN status = 'succeeded' AND n % 10 = 6
            THEN '{{"video": {{"url": "https://v3.fal.media/files/b/boat.mp4"}}}}'::json END,
       CASE WHEN status = 'queued' THEN to_timestamp(1777809600 + n) END
FROM (SELECT n, n > {JOBS - OPEN} AS is_open, CASE WHEN n > {JOBS - OPEN}
             THEN (ARRAY['queued', 'submitting', 'submitted', 'running', 'unconfirmed'])[n % 5 + 1]
             ELSE CASE abs(hashint8(n)) % 50 WHEN 0 THEN 'failed' WHEN 1 THEN 'canceled' ELSE 'succeeded' END
             END AS status
      FROM generate_series(1, {JOBS}) n) s;
INSERT INTO attempts (id, job_id, sent_at, fal_request_id, fal_key_id, outcome, status_path, result_path, cancel_path)
SELECT attempt_id, id, created_at, fal_request_id, 'fake-fal-key', 'accepted', '/s', '/r', '/c' FROM jobs;
INSERT INTO entries (id, job_id, kind, source, amount_usd, seconds, price_id, resolves_id, user_id, team_id, key_id,
                     model, end_user, tags, job_status, booked_at)
SELECT id, id, 'hold', 'job', quoted_usd, seconds, price_id, NULL::uuid, user_id, team_id, key_id, model, end_user,
       tags, NULL, created_at FROM jobs
UNION ALL
SELECT md5('entry' || id)::uuid, id, CASE WHEN charged_usd > 0 THEN 'settle' ELSE 'void' END, id::text, quoted_usd,
       seconds, price_id, id, user_id, team_id, key_id, model, end_user, tags, status, finished_at
FROM jobs WHERE finished_at IS NOT NULL
ORDER BY 16;
INSERT INTO idempotency_keys SELECT user_id, 'key ' || id, 'x', id FROM jobs ORDER BY id LIMIT 200000;
INSERT INTO payloads SELECT id, '{{}}' FROM jobs WHERE status = 'queued';
INSERT INTO outputs (job_id, url, path, size_bytes, sha256, stored_at)
SELECT id, 'https://v3.fal.media/files/b/boat.mp4', '2026/04/job_' || id || '.mp4', 5000000, 'x', now()
FROM jobs WHERE output IS NOT NULL;
INSERT INTO job_logs SELECT id, n, '2026-05-01T00:00:00Z', 'INFO', 'USER', 'step ' || n
    FROM (SELECT id FROM jobs ORDER BY id LIMIT 100000) j, generate_series(1, 5) n;
INSERT INTO files SELECT id, user_id, team_id, key_id, NULL, 'cat.png', 'image/png', 1000, 'x', 'https://v3.fal.media/c',
    created_at FROM jobs ORDER BY id DESC LIMIT 500000;
INSERT INTO erasures SELECT fal_request_id, job_id, fal_key_id, 1, NULL, now(), NULL
    FROM attempts WHERE fal_request_id IS NOT NULL ORDER BY job_id DESC LIMIT 300000;
INSERT INTO deliveries (id, job_id, user_id, team_id, type, url, target, body, status, give_up_at, created_at)
SELECT id, id, user_id, team_id, 'job.succeeded', 'https://h', 'h:443', '{{}}', 'delivered', now(), created_at
FROM jobs WHERE status = 'succeeded' ORDER BY id LIMIT 300000;
INSERT INTO keys SELECT md5('key' || n - 1)::uuid, md5('user' || n)::uuid, 'k', 'fg_', NULL, NULL, now(), now()
    FROM generate_series(1, {USERS}) n;
INSERT INTO key_secrets SELECT sha256(('secret' || n)::bytea), md5('key' || n - 1)::uuid, NULL, now()
    FROM generate_series(1, {USERS}) n;
INSERT INTO quotas SELECT md5('quota')::uuid, 'user', '', 'usd', 'day', 1000000, now() - interval '60 days', NULL;
INSERT INTO quota_usage SELECT md5('usage' || u || '-' || d)::uuid, md5('quota')::uuid, md5('user' || u + 1),
    '2026-04-03Z'::timestamptz + d * interval '1 day', '2026-04-04Z'::timestamptz + d * interval '1 day', 0, 1000
FROM generate_series(0, {USERS - 1}) u, generate_series(0, 33) d;
INSERT INTO fal_bills SELECT fal_request_id, finished_at, 0, endpoint, 5, 0.28, 1.40, NULL, now()
    FROM jobs WHERE status = 'succeeded' AND fal_request_id IS NOT NULL;
INSERT INTO refusals SELECT '2026-04-03Z'::timestamptz + h * interval '1 hour', md5('team' || u % {TEAMS} + 1)::uuid,
    md5('user' || u)::uuid, 'quota-exceeded', md5('quota')::uuid, 7
FROM generate_series(0, 30 * 24) h, generate_series(1, {USERS}) u;
DROP FUNCTION seeded(bigint)
"""  # noqa: S608  figures of our own


class Watched:
    """A house whose every statement is explained."""

    def __init__(self, house: House, ran: list[Ran], who: Someone) -> None:
        self.house = house
        self.ran = ran
        self.who = who
        self.faults: list[str] = []

    async def check(self, name: str, act: Callable[[], Awaitable[Any]], *, most: int = PAGE_BUFFERS) -> Any:
        """Do it; no statement of it may read a big table from end to end, or more than `most` buffers."""
        self.ran.clear()
        outcome = await act()
        assert self.ran, name
        indexes = sorted(set().union(*(one.indexes for one in self.ran)))
        buffers = [one.buffers for one in self.ran]
        told = f"{len(self.ran):4} statements {sum(buffers):7} buffers, {max(buffers):5} at most of {most}"
        print(f"{name:75} {told}  {', '.join(indexes)}")  # noqa: T201
        for one in self.ran:
            if one.scans:
                self.faults.append(f"{name}: Seq Scan on {one.scans}\n{one.query[-600:]}")
            if one.buffers > most:
                self.faults.append(f"{name}: {one.buffers} buffers, more than {most}\n{one.query[-600:]}")
        return outcome


@pytest.fixture
async def million(postgres: EmbeddedPostgres, template: str) -> str:
    """The database of a million jobs, ANALYZEd."""
    postgres.create_database("million", template)
    url = postgres.dsn("million")
    db = Database(url, command_seconds=None)
    async with db.plain() as plain:
        await plain.execute("SET statement_timeout = 0; SET maintenance_work_mem = '256MB'")
        await plain.execute("SET session_replication_role = replica")
        await plain.execute(_SEED, timeout=1200)
        await plain.execute("VACUUM ANALYZE", timeout=1200)
        await rebuild_spend(db, zone=wheel_zone("UTC"))
        await plain.execute("VACUUM ANALYZE spend_daily, spend_monthly")
    await db.close()
    return url


@pytest.fixture
async def big(million: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    connect = asyncpg.connect

    async def explaining(*given: Any, **more: Any) -> Any:
        return await connect(*given, connection_class=Explaining, **more)

    monkeypatch.setattr(asyncpg, "connect", explaining)
    house = House(settings_for(million))
    house.clock.now = NOW
    yield Watched(house, Explaining.ran, await house.someone())
    await house.close()


def seed_id(kind: str, number: int) -> UUID:
    return UUID(hex=hashlib.md5(f"{kind}{number}".encode(), usedforsecurity=False).hexdigest())


async def test_every_statement_of_requests_and_loops_uses_an_index(big: Watched) -> None:
    house, ann = big.house, big.who
    for metric, window, scope in (
        ("in_flight", None, "user"),
        ("usd", "month", "team"),
        ("usd", "month", "organization"),
    ):
        await house.quota(10**9, metric, window, scope=scope)
    began = time.monotonic()
    await house.submit(ann)
    print(f"the first submit fills a month of a million jobs: {time.monotonic() - began:.1f} s")  # noqa: T201
    await house.execute("VACUUM ANALYZE jobs")

    # Requests
    job_id: UUID = await big.check(
        "submit, four quotas", lambda: house.submit(ann, end_user="x", tags={"a": "b"}), most=300
    )
    await big.check("submit with a key", lambda: house.submit(ann, key="once"), most=300)
    await big.check(
        "submit with the key again", lambda: house.rooms.submits.submit(house.submission(ann, key="once")), most=100
    )
    await big.check("estimate", lambda: estimate(house.wiring, house.submission(ann)), most=100)
    await big.check("read", lambda: house.rooms.reader.read(Asked(ann.secret_hash, job_id, house.clock())), most=60)
    await big.check("me", lambda: standing(house, ann), most=100)
    member = calling(ann)
    await big.check("entries", lambda: entries(house, member, job_id), most=60)
    await check_refusals(big, member)
    seeded = replace(member, user_id=seed_id("user", 7), team_id=seed_id("team", 8))
    filters: list[list[tuple[str, str]]] = [
        [],
        [("cursor", id_of("job", job_id))],
        [("since", "2026-04-20T00:00:00Z"), ("until", "2026-04-21T00:00:00Z")],
        [("model", "kling-2.1-master")],
        [("model", "of-nobody")],
        [("end_user", "visitor 16")],
        [("tag.project", "p10")],
        *([("status", status)] for status in STATUSES),
        [("status", "canceled"), ("tag.project", "p10")],
    ]
    filters += [
        [("user_id", id_of("user", seed_id("user", 7)))],
        [("team_id", id_of("team", seed_id("team", 8)))],
        [("end_user", "nobody")],
        [("tag.project", "none")],
    ]
    roles: tuple[Role, ...] = ("member", "lead", "finance", "admin")
    for role in roles:
        for query in filters:
            page = partial(listed, house, replace(seeded, role=role), JobFilter(query))
            await big.check(f"list, {role}, {dict(query)}", page, most=3_500)
    await big.check("cancel, queued", lambda: cancel_job(house.rooms, member, job_id), most=300)

    await check_reads_of_fals_protocol(big)
    await check_files_and_videos(big)
    await check_figures(big)
    await check_reports(big)

    await check_alerts(big)

    # Loops
    house.fal.submit_outcome = None
    await check_brakes(big)
    await big.check("dispatch: claim, send, store", house.send, most=6_000)
    house.fal.status_outcome = InProgress((LogLine("step 1", "INFO", "USER", None),))
    await let_be_due(house, "submitting", "submitted", "running")
    await big.check("track: claim, see, keep what is written", house.track, most=6_000)
    house.fal.status_outcome, house.fal.result_outcome = Completed(None, None), Succeeded({}, None)
    await let_be_due(house, "submitted", "running")
    await big.check("track: claim, end", house.track, most=6_000)
    await let_be_due(house)
    await house.send()
    await house.track()
    await big.check("nothing due: dispatch", house.send)
    await big.check("nothing due: track", house.track)
    await big.check("strays", house.follow_strays)
    await big.check("overdue", lambda: end_overdue(house.wiring, house.rooms.endings))
    await check_forgetting(big)
    await check_lost_answers(big)
    assert not big.faults, "\n\n".join(big.faults)


async def check_lost_answers(big: Watched) -> None:
    house = big.house
    await big.check("no lost answer", lambda: claim_endpoints(house.db, every_seconds=60))
    await house.execute(
        "WITH lost AS (UPDATE jobs SET fal_request_id = NULL, next_check_at = NULL WHERE id IN"
        " (SELECT id FROM jobs WHERE status = 'unconfirmed' AND finished_at IS NULL LIMIT 100) RETURNING attempt_id)"
        " UPDATE attempts SET fal_request_id = NULL, outcome = 'unknown', sent_at = now()"
        " WHERE id IN (SELECT attempt_id FROM lost)"
    )
    await house.execute("VACUUM jobs")
    await house.execute("VACUUM attempts")
    await big.check("lost answers: claim", lambda: claim_endpoints(house.db, every_seconds=60), most=6_000)
    await big.check("lost answers: suspects", lambda: read_suspects(house.db, TEXT), most=7_000)


async def let_be_due(house: House, *statuses: str) -> None:
    """A hundred of these, however long the seeding took, and no others.

    Vacuumed, as by autovacuum: what is dead yet is read once more by the first claim.
    """
    await house.execute("UPDATE jobs SET next_check_at = now() + interval '1 hour' WHERE next_check_at IS NOT NULL")
    await house.execute(
        "UPDATE jobs SET next_check_at = now() WHERE id IN (SELECT j.id FROM unnest($1::text[]) s, LATERAL"
        " (SELECT id FROM jobs WHERE status = s AND next_check_at IS NOT NULL LIMIT 100) j)",
        list(statuses),
    )
    await house.execute("VACUUM jobs")


async def check_alerts(big: Watched) -> None:
    house, ann = big.house, big.who
    await house.execute("UPDATE teams SET alert_url = 'https://h', alert_shape = 'slack', alert_user_id = id")
    await house.quota(10, "jobs", "day", scope="user", scope_id=id_of("user", ann.user_id))
    while await house.value("SELECT count(*) FROM jobs WHERE user_id = $1", ann.user_id) < 5:
        await house.submit(ann)
    await house.submit(ann)
    await big.check("alerts: every window in force, one to tell of", house.rooms.alerts.tell)
    assert await house.value("SELECT count(*) FROM deliveries WHERE type = 'quota.alert'") == 1


async def check_brakes(big: Watched) -> None:
    """A breaker, and then a freeze of all who wait but one."""
    house = big.house
    limits = Limits(Decimal(10**6), Decimal("1000.00"))
    await big.check("dispatch with a breaker: claim", partial(house.claim, 1, limits=limits), most=6_000)
    await house.execute(
        "INSERT INTO freezes (id, scope, scope_id, note, by, by_role, created_at)"
        " SELECT gen_random_uuid(), 'user', replace(id::text, '-', ''), 'x', 'x', 'admin', now() FROM users"
        " WHERE id <> $1 LIMIT 200",
        big.who.user_id,
    )
    await big.check("dispatch while 200 users are frozen: claim", partial(house.claim, 1), most=6_000)
    await big.check("submit while 200 users are frozen", lambda: house.submit(big.who), most=300)
    await house.execute("DELETE FROM freezes")


async def check_forgetting(big: Watched) -> None:
    """PAYLOAD_DAYS over all that there is but five days of it, and fal's copies."""
    house = big.house
    house.wiring.platform.erases_payloads = True  # without a key nobody is asked
    house.clock.now = NOW + timedelta(days=25)
    await big.check("forgetting: a batch of what is old", lambda: house.rooms.forgetting._turn(1), most=8_000)
    await house.execute("UPDATE forgetting SET through = $1", NOW - timedelta(days=5))
    await big.check("forgetting: nothing is old", lambda: house.rooms.forgetting._turn(1))
    house.clock.now = NOW
    await house.execute("UPDATE erasures SET next_try_at = now() WHERE job_id IN (SELECT job_id FROM erasures LIMIT 5)")
    await big.check("fal's copies: claim, ask, keep", lambda: house._turn(house.rooms.fal_copies), most=3_000)
    await house.execute("UPDATE erasures SET next_try_at = NULL WHERE next_try_at < now() + interval '1 minute'")
    house.rooms.fal_copies._quiet_until = 0.0
    assert await big.check("no copy due at fal", lambda: house._turn(house.rooms.fal_copies)) == 0


async def seeded_video(house: House) -> tuple[UUID, bytes]:
    """A job of the seeded user 7, with a log and a video, and the hash of that user's secret."""
    found = "SELECT id FROM jobs WHERE user_id = $1 AND output IS NOT NULL ORDER BY id LIMIT 1"
    return await house.value(found, seed_id("user", 7)), hashlib.sha256(b"secret7").digest()


async def check_reads_of_fals_protocol(big: Watched) -> None:
    """What its callers ask ten times a second, what their submits leave to forget, and the logs."""
    house, ann = big.house, big.who
    job_id, secret_hash = await seeded_video(house)
    asked = Asked(secret_hash, job_id, house.clock())
    look = Wanted(asked, with_log=True, with_result=True)
    glances = house.rooms.glances
    await big.check("status", lambda: glances.read(Wanted(asked)), most=60)
    await big.check("status with the log, and the result", lambda: glances.read(look), most=100)
    await big.check("64 of them", lambda: asyncio.gather(*(glances.read(look) for _ in range(65))), most=3_000)
    await big.check("log", lambda: house.rooms.log_reader.read(asked, after=2, most=100), most=60)

    repeats = Repeats(house.wiring, house.rooms.submits)
    submission = house.submission(ann, key="fal\u00b7digest")
    made = (await house.rooms.submits.submit(submission)).job_id
    await big.check("a submit's answer was heard", lambda: repeats.forget(made, submission), most=60)
    waits, there = repeats.waits, cast("Line", SimpleNamespace(is_gone=False))
    await big.check("a direct call is waited for", lambda: waits.begin(made, "fal\u00b7run", there), most=60)
    await big.check("another like it", lambda: waits.take_over(secret_hash, "fal\u00b7run", there), most=100)
    await big.check("its answer was heard", lambda: waits.end(Wait(made, "falgate-0/1")), most=60)

    member = calling(ann)
    for end_user in ("visitor 16", "nobody"):
        grant = Grant(scope="read", expires_at=NOW, end_user=end_user)
        mine = partial(listed, house, replace(member, user_id=seed_id("user", 7)), JobFilter([]), grant=grant)
        await big.check(f"list by a token of {end_user}", mine, most=3_500)


async def check_files_and_videos(big: Watched) -> None:
    """An upload, a video through the gateway, the archive, and one job's payload erased."""
    house, member = big.house, calling(big.who)
    now = house.clock()
    owner = Owner(user_id=seed_id("user", 7), team_id=seed_id("team", 8), key_id=seed_id("key", 6))
    file_id = new_id(now)
    file = {"id": file_id, "name": "a.png", "content_type": "image/png", "url": "", "created_at": now}
    await big.check("a file is counted in", lambda: files._count_in(house.db, owner, file, now=now), most=60)
    await big.check("a file is there", lambda: files._say_where(house.db, file_id, "https://f"), most=60)

    job_id, secret_hash = await seeded_video(house)
    asked = Asked(secret_hash, job_id, now)
    await big.check("content", lambda: content._find_video(house.rooms, asked), most=60)

    await house.execute(
        "UPDATE outputs SET stored_at = NULL, next_try_at = now() WHERE job_id IN"
        " (SELECT id FROM jobs WHERE output IS NOT NULL ORDER BY id DESC LIMIT 50)"
    )
    due = await big.check("archive: claim", lambda: rows.claim_outputs(house.db, 4), most=300)
    kept = rows.Kept(content_type="video/mp4", size_bytes=1, sha256=b"x")
    await big.check("archive: stored", lambda: rows.store_output(house.db, due[0], kept, days=30, now=now), most=60)
    later = partial(rows.try_later, house.db, due[1], error="away", is_last=False)
    await big.check("archive: later", later, most=60)
    await big.check("archive: given back", lambda: rows.give_back(house.db, due[2]), most=60)
    await big.check("archive: still wanted", lambda: rows.is_wanted(house.db, due[3].job_id), most=60)
    ids = [one.job_id for one in due]
    await big.check("archive: erased", lambda: rows.remove_erased(house.db, ids), most=100)
    await house.execute("DELETE FROM outputs WHERE job_id = ANY($1)", ids)
    await big.check(
        "archive: to be kept", lambda: in_transaction(house.db, lambda p: rows.keep_outputs(p, ids)), most=100
    )

    seven = replace(member, user_id=seed_id("user", 7), team_id=seed_id("team", 8))
    await big.check("erase a payload", lambda: erase_payload(house.rooms, seven, job_id), most=100)


async def listed(house: House, caller: Caller, asked: JobFilter, *, grant: Grant | None = None) -> str:
    async with house.db.plain() as plain:
        return await list_jobs(plain, caller, asked, grant=grant)


async def entries(house: House, caller: Caller, job_id: UUID) -> Any:
    async with house.db.plain() as plain:
        return await explain_job(plain, job_id, caller=caller, limit=20)


async def standing(house: House, who: Someone) -> None:
    holder = Holder(who.team_id, who.user_id, who.key_id, None)
    async with house.db.plain() as plain:
        by_subject = await find_applying(plain, [holder], now=house.clock(), zone=house.wiring.settings.zone)
        for applied in applying_to(holder, by_subject):
            await read_usage(plain, applied)


async def check_reports(big: Watched) -> None:
    """What accounting asks of a day or an hour of the month; a report of spend reads each hold that is open, too."""
    house, db, zone = big.house, big.house.db, big.house.wiring.settings.zone
    mia = acting(replace(calling(big.who), user_id=seed_id("user", 7), team_id=seed_id("team", 8)))
    since = datetime(2026, 4, 20, tzinfo=UTC)
    until = since + timedelta(hours=1)
    for who, actor in (("all", COMMAND_LINE), ("a member's", mia)):
        for grouping, most in (("day,team", 25_000), ("user,model", 25_000), ("tag.project", 30_000)):
            day = [("since", "2026-04-20"), ("until", "2026-04-21"), ("group_by", grouping)]
            asked = read_spend_asked(day, now=NOW, zone=zone, faults=[])
            spent = partial(read_spend, db, asked, actor=actor, take=lambda _: None)
            await big.check(f"spend of a day by {grouping}, {who}", spent, most=most)
        wanted, streams = JobsAsked(Period(since, until)), Streams()
        made = by_created(wanted, actor=actor, until=until, last=NOW, zone=zone)
        await big.check(
            f"jobs.csv of an hour, {who}", partial(drain, pages_by_job(db, streams, made, header=b"")), most=40_000
        )
        charged = by_charged(wanted, actor=actor, until=until, zone=zone)
        await big.check(
            f"jobs.csv of the charges of an hour, {who}",
            partial(drain, pages_by_booking(db, streams, charged, header=b"")),
            most=40_000,
        )
        focus = await by_entry(db, Period(since, until), actor=actor, until=until, zone=zone, account="x")
        await big.check(
            f"focus.csv of an hour, {who}",
            partial(drain, pages_by_booking(db, streams, focus, header=b"")),
            most=40_000,
        )
    await big.check("reconciliation of an hour", lambda: read_lines(db, since, until, limit=50), most=60_000)
    job_id, _ = await seeded_video(house)
    await big.check("an adjustment by hand", lambda: adjust(house, job_id, "0.10"), most=300)


async def drain(pages: Pages) -> None:
    async for _ in pages:
        pass


async def check_refusals(big: Watched, member: Caller) -> None:
    """What is written once a second, and what a caller reads of its own day."""
    counts, db = big.house.rooms.refusals, big.house.db
    for number in range(1, 65):
        counts.count(NotFound("x"), team_id=seed_id("team", number % TEAMS + 1), user_id=seed_id("user", number))
    await big.check("refusals: a second's counts", lambda: counts.flush(db), most=1_500)
    day = [("since", "2026-05-02"), ("until", "2026-05-03"), ("group_by", "hour,quota")]
    asked = read_asked(day, now=NOW, zone=big.house.wiring.settings.zone, faults=[])
    await big.check("refusals: a day", lambda: read_refusals(db, asked, actor=acting(member), now=NOW))


async def check_figures(big: Watched) -> None:
    """What /metrics, the warning of a low balance and the look at how fal is doing read."""
    house = big.house

    async def figures() -> None:
        async with house.db.plain() as plain:
            await metrics._of_the_database(plain)

    began = time.monotonic()
    await figures()
    print(f"the figures of /metrics with a million ended jobs to count: {time.monotonic() - began:.3f} s")  # noqa: T201
    await fold_ended(house.db, now=house.clock())
    began = time.monotonic()
    await big.check("metrics, explained and run", figures, most=8_000)
    print(f"the figures of /metrics, twice: {time.monotonic() - began:.3f} s")  # noqa: T201
    await big.check("folding what has ended", lambda: fold_ended(house.db, now=house.clock()), most=8_000)
    await big.check("how fal is doing", house.rooms.upstream.look)
    await big.check("the balance against what is held", lambda: house.rooms.balance._warn_if_low(ZERO), most=8_000)
