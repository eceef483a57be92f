"""What fal's queue no longer knows: fal's request list decides, which keeps what the queue has let go of."""

import logging
from typing import Final

from app.fal import Failed, Gone, InProgress, ListedRequest, Succeeded, Trouble
from app.jobs import causes
from app.jobs.claims import Followed
from app.jobs.ending import Endings
from app.wiring import Wiring

log = logging.getLogger("falgate.gone")

UNCONFIRMED_EVERY_CHECKS: Final = 3
"""Of the checks of an `unconfirmed` job, once a minute each, those at which the list is asked too."""

_ENDPOINT: Final = "SELECT endpoint FROM jobs WHERE id = $1"


async def ask_the_list(
    wiring: Wiring, endings: Endings, job: Followed, *, is_late: bool
) -> Succeeded | Failed | InProgress | Gone | Trouble:
    """What the list says of the job's fal request. It has been ended by it when that is `Succeeded` or `Failed`.

    `Gone`: the list does not name it, or not what became of it. `Trouble`: the list cannot be read. `is_late`: it is
    past its deadline.
    """
    if job.ref is None:
        return Gone(404)
    async with wiring.db.plain() as plain:
        endpoint = await plain.fetchval(_ENDPOINT, job.job_id)
    request = await wiring.platform.request(endpoint, job.ref.fal_request_id)
    found = _read(wiring.metrics.saw_fal("requests", request))
    if isinstance(found, Succeeded):
        await endings.end(causes.succeeded(job, found))
    elif isinstance(found, Failed):
        await endings.end(causes.failed(job, found, is_late=is_late))
    if isinstance(found, Succeeded | Failed):
        log.info("job_%s: fal's queue no longer knows it; it ended as fal's request list has it", job.job_id.hex)
    return found


def _read(request: ListedRequest | Trouble | None) -> Succeeded | Failed | InProgress | Gone | Trouble:
    if isinstance(request, Trouble):
        return request
    if request is None:
        return Gone(404)
    if request.ended_at is None:
        return InProgress()
    return request.result or Gone(404)
