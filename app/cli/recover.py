"""`falgate recover`: once after a restore, before `serve`, so that fal is asked before anything is sent."""

import asyncio
from typing import Final

import click

from app.cli.database import embedded_option, settings_with_database
from app.cli.installation import open_installation
from app.cli.refusals import Refusal
from app.db import Database
from app.fal import key_id_of
from app.jobs.unknown.recover import Recovered, count_others, recover_jobs
from app.settings import Settings

_LOOKS: Final = 20  # a connection that has just been closed is listed for a moment more
_LOOK_EVERY_SECONDS: Final = 0.1


@click.command
@embedded_option
def command(*, embedded: bool) -> None:
    """After a restore, before `serve`: ask fal about every job that the backup still had to send."""
    with settings_with_database(embedded=embedded) as given:
        recovered = asyncio.run(_work(given.settings))
        click.echo(_words(recovered, given.settings))


async def _work(settings: Settings) -> Recovered:
    async with open_installation(settings) as db:
        await _require_alone(db)
        return await recover_jobs(db, fal_key_id=key_id_of(settings.fal_key), start_seconds=settings.start_seconds)


async def _require_alone(db: Database) -> None:
    others = 0
    for _ in range(_LOOKS):
        others = await count_others(db)
        if not others:
            return
        await asyncio.sleep(_LOOK_EVERY_SECONDS)
    raise Refusal(
        f"A falgate is at work on this database ({others} connections): end it first, since recover is for a restored"
        " database, before `serve`."
    )


def _words(recovered: Recovered, settings: Settings) -> str:
    asked = recovered.queued + recovered.submitting + recovered.unconfirmed
    going_on = f"{recovered.at_fal} jobs that fal has go on by themselves."
    if not asked:
        return f"Nothing to do: no job was still to be sent. {going_on}"
    told = settings.start_seconds + settings.job_deadline_seconds + 2 * settings.unconfirmed_seconds
    words = (
        f"{asked} jobs are unconfirmed now ({recovered.queued} were queued, {recovered.submitting} submitting,"
        f" {recovered.unconfirmed} unconfirmed already). {going_on}\n"
        "While `falgate serve` runs, fal's request list is asked about them once a minute: those it names go on as if"
        f" nothing had happened, those it does not name in {-(-told // 60)} minutes are sent again, and those that it"
        " cannot tell apart stay for an admin (GET /v1/jobs?status=unconfirmed)."
    )
    if not recovered.under_another_key:
        return words
    return (
        f"{words}\nThe newest submit in the backup was sent with another FAL_KEY: that fal's list does not name a job"
        " under this one is no evidence. Serve with that key if you still have it."
    )
