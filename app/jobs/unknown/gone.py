"""What fal's queue no longer knows: fal's request list decides, which keeps what the queue has let go of."""

import logging
import time
from datetime import timedelta
from typing import Final

from app.fal import Failed, Gone, InProgress, ListedRequest, Succeeded, Trouble
from app.jobs.at_fal.claims import Followed
from app.jobs.at_fal.moves import Moves
from app.jobs.ends import causes
from app.jobs.ends.ending import Endings
from app.jobs.reads.hub import Hub
from app.wiring import Wiring

log = logging.getLogger("falgate.gone")

GONE_AGAIN_AFTER: Final = timedelta(minutes=1)
"""How much later fal must say again that it does not know a request, for that to count."""

LIST_EVERY_CHECKS: Final = 3
"""Of the checks of an `unconfirmed` job, which come once a minute, one in so many asks the list too."""

_AT_ONCE_IS_US: Final = 10  # that many jobs at once: a wrong key or URL, not their fault
_WARN_EVERY_SECONDS: Final = 60.0
_ENDPOINT: Final = "SELECT endpoint FROM jobs WHERE id = $1"


class Forgotten:
    """What the tracker does with jobs whose fal request fal's queue does not know."""

    def __init__(self, wiring: Wiring, hub: Hub, endings: Endings) -> None:
        self._wiring = wiring
        self._hub = hub
        self._endings = endings
        self._moves = Moves(wiring)
        self._quiet_until = 0.0

    async def unconfirm(self, job: Followed) -> bool:
        """Make it `unconfirmed`, if fal has said so twice, a minute apart, under the key that sent it, and not of many.

        Even then fal's request list decides. False: nothing was settled by it yet, or the list has ended the job.
        """
        if job.fal_key_id != self._wiring.fal.key_id:
            return False
        now = self._wiring.clock()
        at_once = await self._moves.gone(job, now=now)
        if at_once >= _AT_ONCE_IS_US:
            self._warn(at_once)
            return False
        if job.gone_at is None or now - job.gone_at < GONE_AGAIN_AFTER:
            return False
        if not isinstance(await self.ask_the_list(job), Gone):
            return False
        if not await self._moves.unconfirm(job, job.attempt_outcome or "accepted", was=["submitted", "running"]):
            return False
        log.warning("job_%s: neither fal's queue nor its request list knows it: unconfirmed", job.job_id.hex)
        self._hub.announce([job.job_id])
        return True

    async def ask_the_list(self, job: Followed) -> Succeeded | Failed | InProgress | Gone | Trouble:
        """What the list says of the job's fal request. It has been ended by it when that is `Succeeded` or `Failed`.

        `Gone`: the list does not name it, or not what became of it. `Trouble`: the list cannot be read.
        """
        if job.ref is None:
            return Gone(404)
        async with self._wiring.db.plain() as plain:
            endpoint = await plain.fetchval(_ENDPOINT, job.job_id)
        request = await self._wiring.platform.request(endpoint, job.ref.fal_request_id)
        found = _read(self._wiring.metrics.saw_fal("requests", request))
        if isinstance(found, Succeeded):
            await self._endings.end(causes.succeeded(job, found))
        elif isinstance(found, Failed):
            await self._endings.end(causes.failed(job, found, old_before=causes.old_before(self._wiring)))
        if isinstance(found, Succeeded | Failed):
            log.info("job_%s: fal's queue no longer knows it; it ended as fal's request list has it", job.job_id.hex)
        return found

    def _warn(self, at_once: int) -> None:
        if time.monotonic() > self._quiet_until:
            self._quiet_until = time.monotonic() + _WARN_EVERY_SECONDS
            log.warning("fal says of %d jobs that it does not know them: check FAL_KEY and FAL_QUEUE_URL", at_once)


def _read(request: ListedRequest | Trouble | None) -> Succeeded | Failed | InProgress | Gone | Trouble:
    if isinstance(request, Trouble):
        return request
    if request is None:
        return Gone(404)
    if request.ended_at is None:
        return InProgress()
    return request.result or Gone(404)
