"""What a model writes while it runs is kept once, told to who follows the job, and never stops one."""

from collections.abc import Sequence
from typing import Any

import pytest

from app.fal import Completed, InProgress, LogLine, Trouble
from app.jobs.at_fal.log_keeping import LogKeeper
from tests.jobs.hand import Hand, failed, succeeded


def lines(*messages: str) -> tuple[LogLine, ...]:
    return tuple(LogLine(message, "INFO", "USER", "2026-11-20T09:00:00.000+00:00") for message in messages)


async def listed(hand: Hand, job_id: str, **query: Any) -> dict[str, Any]:
    answer = await hand.gateway.client.get(f"/v1/jobs/{job_id}/logs", params=query, headers=hand.person.headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def messages(hand: Hand, job_id: str) -> list[str]:
    return [entry["message"] for entry in (await listed(hand, job_id, limit=100))["data"]]


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many lines each statement was given."""
    given: list[int] = []
    write = LogKeeper._write

    async def watched(self: LogKeeper, batch: Sequence[Any]) -> Any:
        given.extend(len(news.lines) for news in batch)
        return await write(self, batch)

    monkeypatch.setattr(LogKeeper, "_write", watched)
    return given


async def test_a_line_is_written_once_and_a_log_without_news_costs_nothing(writes: list[int], hands: Hand) -> None:
    job_id = await hands.at_fal("running")
    version = (await hands.job(job_id))["version"]
    told = [(), lines("a"), lines("a"), lines("a", "b", "c"), lines("a", "b", "c")]
    hands.fal.answer("status", *map(InProgress, told))
    for _ in told:
        await hands.check()
    assert writes == [1, 2]
    assert (await hands.job(job_id))["version"] == version
    hands.fal.answer("status", Completed(None, None, 2.5, lines("a", "b", "c", "d")))
    await hands.check()
    assert writes == [1, 2, 1]
    assert await hands.status(job_id) == "succeeded"
    assert await messages(hands, job_id) == ["a", "b", "c", "d"]
    assert (await hands.row(job_id))["inference_seconds"] == 2.5


async def test_who_does_not_know_what_is_kept_keeps_nothing_twice(writes: list[int], hands: Hand) -> None:
    job_id = await hands.at_fal("running")
    for said in (lines("a", "b"), lines("a", "b"), lines("a", "b", "c")):
        hands.rooms.tracker._log = LogKeeper(hands.gateway.wiring, hands.rooms.hub)  # another replica's turn
        hands.fal.answer("status", InProgress(said))
        await hands.check()
    assert writes == [2, 2, 3]
    assert await messages(hands, job_id) == ["a", "b", "c"]
    hands.fal.answer("status", Completed(None, None))
    await hands.check()


async def test_who_follows_the_job_is_woken_by_a_new_line_alone(hands: Hand) -> None:
    job_id = await hands.at_fal("running")
    async with hands.rooms.hub.watching((await hands.row(job_id))["id"]) as news:
        news.clear()
        for said, is_news in ((lines("a"), True), (lines("a"), False)):
            hands.fal.answer("status", InProgress(said))
            await hands.check()
            assert news.is_set() is is_news
            news.clear()
    hands.fal.answer("status", Completed(None, None))
    await hands.check()


async def test_a_log_that_cannot_be_read_hides_nothing(hands: Hand) -> None:
    job_id = await hands.at_fal("running")
    hands.fal.with_log.clear()
    hands.fal.answer("status", Trouble("longer than allowed"), InProgress(), Completed(None, None))
    for _ in range(3):
        await hands.check()
    assert hands.fal.with_log == [True, False, True]
    assert await hands.status(job_id) == "succeeded"


async def test_a_log_that_cannot_be_kept_stops_no_job(
    hands: Hand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object) -> Any:
        raise ValueError("cannot be kept")

    job_id = await hands.at_fal("running")
    monkeypatch.setattr(hands.rooms.tracker._log._group, "_run", refuse)
    hands.fal.answer("status", Completed(None, None, None, lines("a")))
    await hands.check()
    assert await hands.status(job_id) == "succeeded"
    assert "could not be kept" in caplog.text


async def test_a_log_is_listed_oldest_first_page_by_page(hands: Hand) -> None:
    job_id = await hands.at_fal("running")
    assert await listed(hands, job_id) == {"data": [], "next_cursor": None}
    hands.fal.answer("status", Completed(None, None, None, lines(*(f"line {n}" for n in range(45)))))
    await hands.check()
    page: dict[str, Any] = {"next_cursor": "0"}
    found = []
    while page["next_cursor"] is not None:
        page = await listed(hands, job_id, cursor=page["next_cursor"])
        found.append(len(page["data"]))
        assert page["data"][0]["message"] == f"line {sum(found[:-1])}"
    assert found == [20, 20, 5]
    assert page["data"][0] == {
        "message": "line 40",
        "level": "INFO",
        "source": "USER",
        "timestamp": "2026-11-20T09:00:00.000+00:00",
    }
    assert (await listed(hands, job_id, limit=45))["next_cursor"] is None
    assert len((await listed(hands, job_id, limit=44))["data"]) == 44
    for cursor in ("x", "-1", "1.5", "9999999"):
        answer = await hands.gateway.client.get(
            f"/v1/jobs/{job_id}/logs", params={"cursor": cursor}, headers=hands.person.headers
        )
        assert answer.status_code == 422, cursor


async def test_what_fals_result_says_beside_the_output_is_kept(hands: Hand) -> None:
    async def reply(result: Any) -> Any:
        job_id = await hands.at_fal("running")
        hands.fal.answer("status", Completed(None, None, 1.5))
        hands.fal.answer("result", result)
        await hands.check()
        row = await hands.row(job_id)
        assert row["inference_seconds"] == 1.5
        return row["fal_reply"]

    assert await reply(succeeded()) == {"headers": {"x-fal-billable-units": "5"}}
    assert await reply(succeeded(billable=None)) is None
    assert await reply(failed(422, type_="x")) == {"status": 422, "headers": {}, "body": {}}
