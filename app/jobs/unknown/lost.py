"""Lost answers: jobs that fal may or may not have are looked for in fal's request list, and judged by the evidence."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import asyncpg

from app.catalogue.fields import show_image
from app.fal import ListedRequest, Trouble, alias_ref
from app.jobs.at_fal.moves import Moves
from app.jobs.ends import causes
from app.jobs.ends.ending import Endings
from app.jobs.reads.hub import Hub
from app.jobs.states import UNCONFIRMED
from app.jobs.unknown.evidence import Absence, Candidate, Matches, Rule, Times, match, weigh_absence
from app.jobs.unknown.lost_rows import (
    Asked,
    Lost,
    Suspects,
    claim_endpoints,
    find_known,
    has_a_request,
    note_absent,
    queue_again,
    read_suspects,
    remember_absence,
)
from app.loop import Loop
from app.wiring import Wiring

log = logging.getLogger("falgate.lost")

EVERY_SECONDS: Final = 60.0
"""How often fal's list is asked about an endpoint's jobs, at most."""

_AT_ONCE: Final = 4
_INPUTS_KEPT: Final = 2000  # of requests on the list that are not ours


class LostAnswers:
    """One a process; replicas share the work through the rows. What fal's list cannot tell stays for an admin."""

    def __init__(self, wiring: Wiring, hub: Hub, endings: Endings) -> None:
        self._wiring = wiring
        self._hub = hub
        self._endings = endings
        self._moves = Moves(wiring)
        settings = wiring.settings
        self._every_seconds = min(EVERY_SECONDS, float(settings.unconfirmed_seconds))
        self._rule = Rule(
            job_deadline_seconds=settings.job_deadline_seconds,
            unconfirmed_seconds=settings.unconfirmed_seconds,
            longest_call_seconds=wiring.fal.longest_seconds,
            fal_key_id=wiring.fal.key_id,
        )
        self._looking: set[str] = set()
        self._unreadable: set[str] = set()
        self._staying: dict[str, int] = {}
        self._inputs: OrderedDict[str, Mapping[str, object]] = OrderedDict()
        self.loop = Loop("lost", self._turn, places=_AT_ONCE, rest_seconds=1.0)

    async def _turn(self, _free: int) -> int:
        asked = await claim_endpoints(self._wiring.db, every_seconds=self._every_seconds)
        for each in asked:
            if each.endpoint not in self._looking:
                self._looking.add(each.endpoint)
                self.loop.start(self._look(each))
        return len(asked)

    async def _look(self, asked: Asked) -> None:
        try:
            trouble = await self._decide(asked)
        finally:
            self._looking.discard(asked.endpoint)
        if trouble is None:
            self._unreadable.discard(asked.endpoint)
        elif asked.endpoint not in self._unreadable:
            self._unreadable.add(asked.endpoint)
            log.warning("fal's request list cannot be read (%s); unconfirmed jobs stay as they are", trouble.reason)

    async def _decide(self, asked: Asked) -> Trouble | None:
        saw = self._wiring.metrics.saw_fal
        listed = saw("requests", await self._wiring.platform.requests(asked.endpoint))
        if isinstance(listed, Trouble):
            return listed
        suspects = await read_suspects(self._wiring.db, asked.endpoint)
        candidates = await self._candidates(asked.endpoint, listed.requests, suspects)
        if isinstance(candidates, Trouble):
            return candidates
        attempts = [*(job.attempt for job in suspects.lost), *suspects.others]
        await self._act(asked, suspects, await asyncio.to_thread(match, attempts, candidates, self._rule))
        return None

    async def _candidates(
        self, endpoint: str, requests: tuple[ListedRequest, ...], suspects: Suspects
    ) -> list[Candidate] | Trouble:
        """What no attempt has, and could be one of the lost; with its input, which is asked for one by one."""
        times = Times((job.attempt for job in suspects.lost), self._rule)
        near = [request for request in requests if request.sent_at in times]
        known = await find_known(self._wiring.db, [request.fal_request_id for request in near])
        candidates = []
        for request in near:
            if request.fal_request_id in known:
                continue
            given = await self._input_of(endpoint, request.fal_request_id)
            if isinstance(given, Trouble):
                return given
            candidates.append(Candidate(request.fal_request_id, request.sent_at, given))
        return candidates

    async def _input_of(self, endpoint: str, fal_request_id: str) -> Mapping[str, object] | Trouble | None:
        if fal_request_id in self._inputs:
            self._inputs.move_to_end(fal_request_id)
            return self._inputs[fal_request_id]
        saw = self._wiring.metrics.saw_fal
        request = saw("requests", await self._wiring.platform.request(endpoint, fal_request_id))
        if request is None:
            return Trouble("fal's request list does not name again what it has just named")
        if isinstance(request, Trouble) or request.input is None:
            return request if isinstance(request, Trouble) else None
        self._inputs[fal_request_id] = shown = await asyncio.to_thread(_shown, request.input)
        if len(self._inputs) > _INPUTS_KEPT:
            self._inputs.popitem(last=False)
        return shown

    async def _act(self, asked: Asked, suspects: Suspects, matches: Matches) -> None:
        unnamed = [job for job in suspects.lost if job.attempt_id not in {*matches.found, *matches.doubtful}]
        weighed = {job.job_id: weigh_absence(job.attempt, asked.asked_at, self._rule) for job in unnamed}
        staying = len(matches.doubtful & {job.attempt_id for job in suspects.lost})
        for job in suspects.lost:
            if job.attempt_id in matches.found:
                await self._accept(asked.endpoint, job, matches.found[job.attempt_id])
            elif weighed.get(job.job_id) is Absence.UNPROVABLE:
                staying += 1
            elif weighed.get(job.job_id) is Absence.PROVEN:
                staying += not await self._let_go(job)
        first = [job.attempt_id for job in unnamed if weighed[job.job_id] is Absence.FIRST]
        await remember_absence(self._wiring.db, first, asked.asked_at)
        named = [job.attempt_id for job in suspects.lost if job not in unnamed and job.attempt.absent_at is not None]
        await remember_absence(self._wiring.db, named, None)
        self._tell(asked.endpoint, staying)

    async def _accept(self, endpoint: str, job: Lost, fal_request_id: str) -> None:
        try:
            moved = await self._moves.accepted(job, alias_ref(endpoint, fal_request_id), position=None)
        except asyncpg.UniqueViolationError:
            log.warning("job_%s: another attempt has got fal request %s meanwhile", job.job_id.hex, fal_request_id)
            return
        if moved:
            log.info("job_%s: fal has it after all, as %s", job.job_id.hex, fal_request_id)
        self._hub.announce([job.job_id])

    async def _let_go(self, job: Lost) -> bool:
        """Fal never had it. False: another attempt of the job speaks against it, so it stays."""
        if job.cancel_requested_at is None:
            if not await queue_again(self._wiring.db, job, now=self._wiring.clock()):
                return False
            log.warning("job_%s: fal never had it; it is sent again", job.job_id.hex)
            self._hub.announce([job.job_id])
        elif await has_a_request(self._wiring.db, job.job_id):
            return False
        elif await self._endings.end(causes.canceled_before_start(job, was=UNCONFIRMED)):
            await note_absent(self._wiring.db, job.attempt_id)
        return True

    def _tell(self, endpoint: str, staying: int) -> None:
        if staying and staying != self._staying.get(endpoint):
            log.warning(
                "%d jobs of %s are unconfirmed and fal's request list cannot tell what became of them: an admin lists"
                " them by GET /v1/jobs?status=unconfirmed and ends each by POST /v1/jobs/{id}/resolve",
                staying,
                endpoint,
            )
        self._staying[endpoint] = staying


def _shown(given: Mapping[str, object]) -> Mapping[str, object]:
    """The input with its images by their digest, as jobs keep it: small enough to be remembered."""

    def show(value: object) -> object:
        try:
            return show_image(value) if isinstance(value, str) else value
        except ValueError:
            return value

    return {name: show(value) for name, value in given.items()}
