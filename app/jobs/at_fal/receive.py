"""Webhooks from fal: a hint, once its signature, its account and its request hold. The tracker then asks fal."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from app.db import Database
from app.fal import (
    Forged,
    Genuine,
    Gone,
    KeysAway,
    Queued,
    RequestRef,
    StatusOutcome,
    Trouble,
    Webhook,
    alias_ref,
    read_webhook,
)
from app.jobs.at_fal.claims import Claimed
from app.jobs.at_fal.moves import Moves
from app.problems import NotFound, Problem, Unavailable
from app.settings import Settings
from app.wiring import Wiring

log = logging.getLogger("falgate.receive")

Headers = Sequence[tuple[bytes, bytes]]

_PATH: Final = "/webhooks/fal/"
_ATTEMPT_ID: Final = re.compile(r"[0-9a-f]{32}")
_ASKING_AT_ONCE: Final = 8
_ASK_SECONDS: Final = 10.0  # fal itself waits 15 for our answer (FAL.md 3)
_WARN_EVERY_SECONDS: Final = 60.0

_FIND: Final = """
SELECT a.job_id, a.fal_request_id, a.fal_key_id, a.stray_check_at IS NOT NULL AS is_stray, j.endpoint, j.checks,
       j.cancel_requested_at, j.finished_at IS NOT NULL AS has_ended, f.user_id
FROM attempts a JOIN jobs j ON j.id = a.job_id LEFT JOIN fal_accounts f ON f.fal_key_id = a.fal_key_id
WHERE a.id = $1
"""
_PIN: Final = """
INSERT INTO fal_accounts (fal_key_id, user_id, learnt_at) VALUES ($1, $2, $3) ON CONFLICT (fal_key_id) DO NOTHING
"""
_PINNED: Final = "SELECT user_id FROM fal_accounts WHERE fal_key_id = $1"
# The job's row is locked first: an end of it waits, and then forgets what is kept here, or has been.
# Only the first webhook of an attempt wakes: whoever repeats a true one must not make us ask fal each time.
_KEEP: Final = """
WITH mine AS MATERIALIZED (
    SELECT id FROM jobs WHERE id = $2 AND attempt_id = $1 AND fal_request_id = $3
      AND status IN ('submitted', 'running', 'unconfirmed') FOR UPDATE
), kept AS (
    INSERT INTO fal_webhooks (attempt_id, job_id, fal_request_id, body, received_at)
    SELECT $1, id, $3, $4::text::json, $5 FROM mine ON CONFLICT (attempt_id) DO NOTHING
    RETURNING job_id
)
UPDATE jobs j SET next_check_at = now() FROM kept WHERE j.id = kept.job_id RETURNING j.id
"""
_STRAY_IS_DUE: Final = """
UPDATE attempts SET stray_check_at = now() WHERE id = $1 AND stray_check_at > now()
"""


def url_for_fal(settings: Settings, attempt_id: UUID) -> str | None:
    """Where fal tells of this attempt: a secret between fal and us. None without PUBLIC_URL."""
    return f"{settings.public_url}{_PATH}{attempt_id.hex}" if settings.public_url else None


class WebhookRefused(Problem):
    """This is not a webhook of fal's about a job of this gateway.

    Only fal calls this path. It signs what it sends; here the signature, the account of fal's or the request that it
    is about is not the right one. The gateway asks fal about its jobs all the same, so nothing is lost.
    """

    status = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """Whom the webhook is for; `account` is whose signature counts, where that has been learnt."""

    job: Claimed
    endpoint: str
    fal_request_id: str | None
    fal_key_id: str
    account: str | None
    is_stray: bool
    has_ended: bool


class Receiver:
    """One a process."""

    def __init__(
        self,
        wiring: Wiring,
        announce: Callable[[Sequence[UUID]], None],
        *,
        wake_tracker: Callable[[], None],
        wake_strays: Callable[[], None],
    ) -> None:
        self._wiring = wiring
        self._announce = announce
        self._wake_tracker = wake_tracker
        self._wake_strays = wake_strays
        self._moves = Moves(wiring)
        self._asking = 0
        self._quiet_until = 0.0

    async def receive(self, attempt: str, headers: Headers, read_body: Callable[[], Awaitable[bytes]]) -> None:
        """Take a webhook for the attempt with this id; returns once it is stored.

        Raises NotFound, WebhookRefused, or Unavailable for what fal had better send again.
        """
        attempt_id = UUID(hex=attempt) if _ATTEMPT_ID.fullmatch(attempt) else None
        sent = await _find(self._wiring.db, attempt_id) if attempt_id is not None else None
        if sent is None:
            self._count("unknown_attempt")
            raise NotFound("Only fal calls this path, for jobs that this gateway sent to it.")
        webhook, account = await self._verify(headers, await read_body())
        if sent.fal_request_id is None:
            await self._identify(sent, webhook, account)
        elif webhook.fal_request_id != sent.fal_request_id:
            raise self._refuse("other_request")
        elif account != (sent.account or await self._pin(sent.fal_key_id, account)):
            raise self._refuse("other_account")
        self._count(await self._keep(sent, webhook))

    async def _verify(self, headers: Headers, body: bytes) -> tuple[Webhook, str]:
        """The webhook, and whose it is; nothing of the body is read before its signature holds."""
        match await self._wiring.signatures.judge(headers, body, now=self._wiring.clock()):
            case KeysAway(reason):
                raise self._postpone("no_keys", f"fal's public keys are away ({reason})")
            case Forged(reason):
                raise self._refuse(f"forged_{reason}")
            case Genuine(fal_request_id, user_id):
                webhook = read_webhook(body)
        if webhook is None or webhook.fal_request_id != fal_request_id:
            raise self._refuse("unreadable")
        return webhook, user_id

    async def _pin(self, fal_key_id: str, account: str) -> str:
        """The account of this FAL_KEY: from now on the one that signed about a request that we know is ours."""
        async with self._wiring.db.begin_plain() as plain:
            await plain.execute(_PIN, fal_key_id, account, self._wiring.clock())
            return str(await plain.fetchval(_PINNED, fal_key_id))

    async def _identify(self, sent: _Attempt, webhook: Webhook, account: str) -> None:
        """A webhook before the submit's answer, or instead of it: believed once fal names the request to our key."""
        if sent.account is None:
            raise self._postpone("account_unknown", "no job has shown yet which account of fal's is ours")
        if account != sent.account:
            raise self._refuse("other_account")
        ref = alias_ref(sent.endpoint, webhook.fal_request_id)
        match await self._ask(ref):
            case Gone():
                raise self._refuse("not_at_fal")
            case Trouble(reason):
                raise self._postpone("fal_trouble", f"fal does not tell of its request ({reason})")
            case seen:
                position = seen.position if isinstance(seen, Queued) else None
        try:
            is_current = await self._moves.accepted(sent.job, ref, position=position)
        except asyncpg.UniqueViolationError:
            raise self._refuse("other_request") from None
        if not is_current:
            log.warning("job_%s had moved on when fal told of it: that request is cancelled", sent.job.job_id.hex)
            self._wake_strays()
        self._announce([sent.job.job_id])

    async def _ask(self, ref: RequestRef) -> StatusOutcome:
        """A status read with our key; few at once, so that many webhooks are not many calls."""
        if self._asking >= _ASKING_AT_ONCE:
            raise self._postpone("busy", "too many at once are about requests that we do not know yet")
        self._asking += 1
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                outcome: StatusOutcome = await self._wiring.fal.status(ref)
        except TimeoutError:
            outcome = Trouble("it took too long")
        finally:
            self._asking -= 1
        return self._wiring.metrics.saw_fal("status", outcome)

    async def _keep(self, sent: _Attempt, webhook: Webhook) -> str:
        """Store it until the job ends, and have fal asked now; what no longer matters counts as repeated."""
        if sent.is_stray:
            async with self._wiring.db.begin_plain(durable=False) as plain:
                await plain.execute(_STRAY_IS_DUE, sent.job.attempt_id)
            self._wake_strays()
            return "stray"
        if sent.has_ended:
            return "ended"
        async with self._wiring.db.begin_plain() as plain:
            kept = await plain.fetchval(
                _KEEP,
                sent.job.attempt_id,
                sent.job.job_id,
                webhook.fal_request_id,
                webhook.kept,
                self._wiring.clock(),
            )
        if kept is None:
            return "repeated"
        self._wake_tracker()
        return "kept"

    def _refuse(self, why: str) -> WebhookRefused:
        self._count(why)
        self._warn("a webhook was refused (%s)", why)
        return WebhookRefused("It is not signed by fal for this gateway's account, or not about this job.")

    def _postpone(self, why: str, words: str) -> Unavailable:
        self._count(why)
        self._warn("a webhook was put off: %s; fal sends it again, and is asked meanwhile", words)
        return Unavailable("This webhook cannot be judged just now. Send it again.")

    def _count(self, outcome: str) -> None:
        self._wiring.metrics.fal_webhooks.labels(outcome).inc()

    def _warn(self, message: str, words: str) -> None:
        """At most once a minute: whoever floods us must not flood the log."""
        if time.monotonic() > self._quiet_until:
            self._quiet_until = time.monotonic() + _WARN_EVERY_SECONDS
            log.warning(message, words)


async def _find(db: Database, attempt_id: UUID) -> _Attempt | None:
    async with db.plain() as plain:
        row = await plain.fetchrow(_FIND, attempt_id)
    if row is None:
        return None
    job = Claimed(
        job_id=row["job_id"],
        attempt_id=attempt_id,
        checks=row["checks"],
        cancel_requested_at=row["cancel_requested_at"],
    )
    return _Attempt(
        job=job,
        endpoint=row["endpoint"],
        fal_request_id=row["fal_request_id"],
        fal_key_id=row["fal_key_id"],
        account=row["user_id"],
        is_stray=row["is_stray"],
        has_ended=row["has_ended"],
    )
