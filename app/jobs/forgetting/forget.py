"""Forgetting jobs: what was asked for and what came of it is erased. What it cost stays, and whose it was."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from app.db import Plain
from app.deliveries.outbox import sql_erase_deliveries
from app.outputs.rows import mark_erased
from app.wiring import Wiring

# An error's detail may repeat the input; its code and title are words of fal's and ours.
_ERASE: Final = """
WITH mine AS MATERIALIZED (
    SELECT j.id FROM jobs j WHERE j.id = ANY($1) AND j.finished_at IS NOT NULL AND j.payload_erased_at IS NULL
    ORDER BY j.id FOR UPDATE
)
UPDATE jobs j SET input = 'null', output = NULL, fal_reply = NULL, expires_at = NULL, payload_erased_at = $2,
       version = j.version + 1,
       error = CASE WHEN j.error IS NOT NULL THEN json_build_object(
           'code', j.error -> 'code', 'title', j.error -> 'title', 'detail', 'It was erased with the input.'::text,
           'retryable', j.error -> 'retryable', 'fal', j.error -> 'fal') END
FROM mine WHERE j.id = mine.id RETURNING j.id
"""
_ERASE_WITH_THEM: Final = f"""
WITH input AS (DELETE FROM payloads WHERE job_id = ANY($1)),
     told AS (DELETE FROM fal_webhooks WHERE job_id = ANY($1)),
     logs AS (DELETE FROM job_logs WHERE job_id = ANY($1))
{sql_erase_deliveries("$1")}
"""  # noqa: S608  ours
# What was sent under a key of another account is not ours to erase. Of a stray, which may still run, later: what fal
# has not made yet it cannot erase.
_ASK_FAL: Final = """
INSERT INTO erasures (fal_request_id, job_id, fal_key_id, next_try_at)
SELECT a.fal_request_id, a.job_id, a.fal_key_id,
       CASE WHEN a.stray_check_at IS NULL THEN now() ELSE now() + interval '1 day' END
FROM attempts a
JOIN jobs j ON j.id = a.job_id AND j.payload_erased_at IS NOT NULL
LEFT JOIN fal_accounts theirs ON theirs.fal_key_id = a.fal_key_id
LEFT JOIN fal_accounts ours ON ours.fal_key_id = $2
WHERE a.job_id = ANY($1) AND a.fal_request_id IS NOT NULL
  AND (a.fal_key_id = $2 OR coalesce(theirs.user_id = ours.user_id, true))
ON CONFLICT DO NOTHING
"""


async def forget_jobs(plain: Plain, job_ids: Sequence[UUID], *, wiring: Wiring, now: datetime) -> list[UUID]:
    """Erase the payloads of those of these jobs that have ended and still have one; returns them.

    Their videos in the archive are marked: after the commit have it `erase` them, or it does so by itself. Where there
    is FAL_ADMIN_KEY, fal is asked to erase its copies (`fal_copies`). Order of locks: jobs by id, outputs, deliveries.
    """
    rows: list[Any] = await plain.fetch(_ERASE, job_ids, now)
    erased: list[UUID] = [row["id"] for row in rows]
    if erased:
        await mark_erased(plain, erased)
        await plain.execute(_ERASE_WITH_THEM, erased)
        await forget_at_fal(plain, erased, wiring=wiring)
    return erased


async def forget_at_fal(plain: Plain, job_ids: Collection[UUID], *, wiring: Wiring) -> None:
    """Have fal asked to erase all that it made of those of these jobs that are erased here, which are locked.

    To be called again when a fal request of theirs becomes known only afterwards. Nothing without FAL_ADMIN_KEY.
    """
    if wiring.platform.erases_payloads:
        await plain.execute(_ASK_FAL, list(job_ids), wiring.fal.key_id)
