"""`falgate report --job`: what one job cost, and why, in the terminal."""

import re
from pathlib import Path

import pytest

from app.fal import BillableUnits, Completed
from app.money import ONE
from tests.cli.commands import falgate, real
from tests.conftest import settings_for
from tests.jobs.hand import accepted, by_hand, succeeded

PRINTED = """\
job_…  succeeded
2.80 USD charged, as quoted.

asked     <moment>
          by user_…
          with key_…
          for the team Film, archived <moment>
          payload erased <moment>

quote     2.80 USD for 10 s of kling-2.1-master
          fal-ai/kling-video/v2.1/master/text-to-video

price     1.40 for the first 5 s + 5 s × 0.28 = 2.80
          price_… for any input
          since <moment>

fal       <moment>  accepted  request-of-the-test
          billed 10.00 units

entries   <moment>  hold            2.80
            Promised when the job was accepted: 1.40 for the first 5 s + 5 s × 0.28 = 2.80.
          <moment>  settle          2.80
            Charged as quoted: fal billed what was quoted.

quotas    jobs in flight, organization
            quota_…, all the time
            requested 1.00, held 0.00, used 0.00, maximum 1000.00
          USD a day, organization, deleted <moment>
            quota_…, <moment> to <moment>
            requested 2.80, held 0.00, used 2.80, maximum 1000.00
"""


async def charged_job(database_url: str) -> str:
    """Its payload, its quota and its team are gone."""
    async with by_hand(settings_for(database_url)) as hand:
        job_id = await hand.submit("nobody reads this", duration="10")
        hand.fal.answer("submit", accepted("request-of-the-test"))
        await hand.send()
        hand.fal.answer("status", Completed(None, None))
        hand.fal.answer("result", succeeded(BillableUnits("10", 10 * ONE)))
        await hand.check()
        assert await hand.forget(job_id) == 204
        (of_a_day,) = await hand.sql("SELECT id FROM quotas WHERE metric = 'usd'")
        await hand.gateway.admin("DELETE", f"/v1/quotas/quota_{of_a_day['id'].hex}")
        team = f"/v1/teams/{hand.person.team_id}"
        await hand.gateway.admin("PATCH", team, name="Film", archived=True)
        return job_id


async def test_it_prints_what_a_job_cost_and_why(database_url: str, tmp_path: Path) -> None:
    job_id = await charged_job(database_url)
    code, out, err = falgate("report", "--job", job_id, folder=tmp_path, **real(database_url))
    assert (code, err) == (0, "")
    told = re.sub("([a-z])_[0-9a-f]{32}", "\\1_…", out)
    assert re.sub(r"[0-9]{4}(-[0-9]{2}){2} [0-9:]{8}Z", "<moment>", told) == PRINTED


async def test_a_note_of_somebody_elses_is_nothing_that_a_terminal_obeys(database_url: str, tmp_path: Path) -> None:
    async with by_hand(settings_for(database_url)) as hand:
        mine = {"scope": "user", "scope_id": hand.person.user_id}
        for scope in (mine, {"scope": "key"}, {"scope": "end_user", "scope_id": "visitor 42"}):
            await hand.gateway.set_quota(10, "jobs", "lifetime", **scope)
        job_id = await hand.lose(end_user="visitor 42")
        assert await hand.resolve(job_id, outcome="void", note="\x1b[2J") == 200
    out = falgate("report", "--job", job_id, folder=tmp_path, **real(database_url)).out
    assert out.splitlines()[1] == "Nothing charged, 1.40 USD given back (�[2J)."
    assert "Given back, nothing was charged, by ADMIN_KEY: �[2J." in out
    assert "unknown" in out
    assert re.findall("jobs, (.*)", out) == [hand.person.user_id, "each key", "end user visitor 42"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--job", "job_" + "0" * 32), "There is no job job_00000000000000000000000000000000 in this database."),
        (("--job", "boat"), "--job: give an id, job_ and 32 hex digits."),
        (
            ("--job", "job_" + "0" * 32, "--by", "day"),
            "--job prints one job, whenever it was: leave out --since, --until, --by and --csv.",
        ),
    ],
)
def test_what_is_no_job_is_one_sentence(
    database_url: str, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = falgate("report", *arguments, folder=tmp_path, **real(database_url))
    assert done == (1, "", f"falgate: {said}\n")
