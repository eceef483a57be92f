"""The evidence rule as arithmetic: time, deadline, twice, and who cannot be told apart."""

import base64
import itertools
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalogue.fields import show_image
from app.jobs.unknown.evidence import (
    SKEW,
    Absence,
    Candidate,
    Likeness,
    OpenAttempt,
    Rule,
    Times,
    is_in_time,
    liken,
    match,
    weigh_absence,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
RULE = Rule(job_deadline_seconds=3600, unconfirmed_seconds=600, longest_call_seconds=60, fal_key_id="ours")
BOAT = {"prompt": "a boat", "duration": "5", "cfg_scale": 0.5, "negative_prompt": "blur"}
TOLD_BY = NOON + timedelta(seconds=3600 + 3600 + 600)
SECOND = timedelta(seconds=1)


def attempt(number: int = 1, **more: object) -> OpenAttempt:
    made = OpenAttempt(
        attempt_id=UUID(int=number),
        sent_from=NOON,
        sent_at=NOON,
        start_seconds=3600,
        absent_at=None,
        fal_key_id="ours",
        given=BOAT,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def candidate(name: str = "one", given: Mapping[str, object] | None = BOAT, after: timedelta = SECOND) -> Candidate:
    return Candidate(name, NOON + after, given)


# Absence


@pytest.mark.parametrize(
    ("asked_at", "absent_at", "expected"),
    [
        (NOON + SECOND, None, Absence.EARLY),
        (TOLD_BY - SECOND, None, Absence.EARLY),
        (TOLD_BY, None, Absence.FIRST),
        (TOLD_BY + 599 * SECOND, TOLD_BY, Absence.EARLY),
        (TOLD_BY + 600 * SECOND, TOLD_BY, Absence.PROVEN),
        (TOLD_BY + 9000 * SECOND, TOLD_BY, Absence.PROVEN),
        (TOLD_BY + 600 * SECOND, TOLD_BY - SECOND, Absence.FIRST),  # too early a first one does not count
    ],
)
def test_absence_counts_after_every_deadline_and_twice(
    asked_at: datetime, absent_at: datetime | None, expected: Absence
) -> None:
    assert weigh_absence(attempt(absent_at=absent_at), asked_at, RULE) is expected


@pytest.mark.parametrize(
    "rule", [replace(RULE, job_deadline_seconds=3601), replace(RULE, unconfirmed_seconds=601)], ids=str
)
def test_each_figure_of_the_rule_counts(rule: Rule) -> None:
    assert weigh_absence(attempt(), TOLD_BY, rule) is Absence.EARLY
    assert weigh_absence(attempt(start_seconds=3601), TOLD_BY, RULE) is Absence.EARLY
    assert weigh_absence(attempt(), TOLD_BY, RULE) is Absence.FIRST


@pytest.mark.parametrize(
    "lacking",
    [{"start_seconds": None}, {"fal_key_id": "another"}, {"sent_from": TOLD_BY - timedelta(hours=23) + SKEW - SECOND}],
    ids=lambda lacking: next(iter(lacking)),
)
def test_absence_proves_nothing_without_a_deadline_under_another_key_or_beyond_the_list(
    lacking: dict[str, Any],
) -> None:
    for asked_at in (TOLD_BY, TOLD_BY + timedelta(hours=1)):
        assert weigh_absence(attempt(absent_at=TOLD_BY, **lacking), asked_at, RULE) is Absence.UNPROVABLE


def test_what_the_list_just_covers_can_be_absent() -> None:
    old = attempt(sent_from=TOLD_BY - timedelta(hours=23) + SKEW)
    assert weigh_absence(old, TOLD_BY, RULE) is Absence.FIRST


@given(
    start=st.integers(2, 10_000),
    deadline=st.integers(1, 10_000),
    unconfirmed=st.integers(1, 10_000),
    looks=st.lists(st.integers(0, 40_000), max_size=30),
)
def test_no_sequence_of_looks_proves_absence_before_its_time(
    start: int, deadline: int, unconfirmed: int, looks: list[int]
) -> None:
    rule = replace(RULE, job_deadline_seconds=deadline, unconfirmed_seconds=unconfirmed)
    its = attempt(start_seconds=start)
    for seconds in sorted(looks):
        asked_at = NOON + seconds * SECOND
        verdict = weigh_absence(its, asked_at, rule)
        if verdict is Absence.FIRST:
            its = replace(its, absent_at=asked_at)
        if verdict is Absence.PROVEN:
            assert seconds >= start + deadline + 2 * unconfirmed
            earlier = [look for look in looks if start + deadline + unconfirmed <= look <= seconds - unconfirmed]
            assert earlier, "there was another look, long enough before"


# Time


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (-SKEW, True),
        (-SKEW - SECOND, False),
        (timedelta(0), True),
        (SKEW + 60 * SECOND, True),
        (SKEW + 61 * SECOND, False),
    ],
)
def test_a_request_is_in_time_from_the_post_to_the_longest_call_give_or_take_the_clocks(
    after: timedelta, *, expected: bool
) -> None:
    assert is_in_time(attempt(), NOON + after, RULE) is expected


def test_a_recovered_attempt_may_have_been_sent_at_any_time_since_its_job_was_made() -> None:
    its = attempt(sent_from=NOON - timedelta(hours=2))
    assert is_in_time(its, NOON - timedelta(hours=2), RULE)
    assert not is_in_time(its, NOON - timedelta(hours=3), RULE)


@given(spans=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 30)), max_size=6), minutes=st.integers(-90, 220))
def test_the_times_of_several_attempts_are_those_of_each(spans: list[tuple[int, int]], minutes: int) -> None:
    moments = [(NOON + timedelta(minutes=first), NOON + timedelta(minutes=first + more)) for first, more in spans]
    attempts = [attempt(n, sent_from=first, sent_at=last) for n, (first, last) in enumerate(moments)]
    sent_at = NOON + timedelta(minutes=minutes)
    hour, call = timedelta(hours=1), timedelta(seconds=RULE.longest_call_seconds)
    nearly = any(each.sent_from - hour <= sent_at <= each.sent_at + call + hour for each in attempts)
    assert (sent_at in Times(attempts, RULE)) == nearly
    assert nearly or not any(is_in_time(each, sent_at, RULE) for each in attempts)


# Input


PIXELS = [base64.b64encode(bytes([n]) * size).decode() for n, size in ((1, 300), (2, 300), (3, 100))]
OURS, SAME_SIZE, SMALLER = (f"data:image/png;base64,{pixels}" for pixels in PIXELS)
PICTURE = {"prompt": "a boat", "image_url": show_image(OURS)}


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (BOAT, Likeness.SAME),
        (dict(reversed(BOAT.items())), Likeness.SAME),
        ({**BOAT, "duration": 5, "cfg_scale": "0.50"}, Likeness.SAME),
        ({**BOAT, "seed": None, "added": "by fal"}, Likeness.SAME),
        ({"prompt": "a boat"}, Likeness.SAME),
        ({**BOAT, "negative_prompt": None}, Likeness.SAME),
        ({**BOAT, "prompt": "a ship"}, Likeness.OTHER),
        ({**BOAT, "prompt": "A boat"}, Likeness.OTHER),
        ({**BOAT, "duration": "10"}, Likeness.OTHER),
        ({**BOAT, "cfg_scale": 0.4}, Likeness.OTHER),
        ({}, Likeness.UNTOLD),
        ({"something": "else"}, Likeness.UNTOLD),
        (None, Likeness.UNTOLD),
    ],
    ids=str,
)
def test_inputs_differ_only_by_what_both_have(theirs: dict[str, object] | None, expected: Likeness) -> None:
    assert liken(BOAT, theirs) is expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (OURS, Likeness.SAME),
        (show_image(OURS), Likeness.SAME),
        (SAME_SIZE, Likeness.OTHER),
        (SMALLER, Likeness.SAME),  # or ours, cut short
        (OURS[:100], Likeness.SAME),
        (f"{OURS[:40]}…(422 characters)", Likeness.SAME),
        ("data:image/png;base64,x", Likeness.SAME),
        ("https://fal.media/files/x.png", Likeness.SAME),
        (17, Likeness.SAME),
    ],
    ids=range(9),
)
def test_an_image_is_another_only_when_all_of_it_is_there(image: object, expected: Likeness) -> None:
    assert liken(PICTURE, {"prompt": "a boat", "image_url": image}) is expected
    assert liken(PICTURE, {"prompt": "a ship", "image_url": image}) is Likeness.OTHER


def test_a_linked_image_is_compared_as_it_is() -> None:
    ours = {"prompt": "a boat", "image_url": "https://example.com/a.png"}
    assert liken(ours, ours) is Likeness.SAME
    assert liken(ours, {**ours, "image_url": "https://example.com/b.png"}) is Likeness.OTHER


# Who is whose


SHIP = {**BOAT, "prompt": "a ship"}


def test_one_candidate_for_one_attempt_is_its_own() -> None:
    matches = match([attempt(1), attempt(2, given=SHIP)], [candidate("one"), candidate("two", SHIP)], RULE)
    assert matches.found == {UUID(int=1): "one", UUID(int=2): "two"}
    assert matches.doubtful == frozenset()


def test_nobody_is_named_by_an_empty_list() -> None:
    matches = match([attempt()], [], RULE)
    assert (dict(matches.found), matches.doubtful) == ({}, frozenset())


@pytest.mark.parametrize(
    ("attempts", "candidates", "doubtful"),
    [
        ([attempt(1), attempt(2)], [candidate()], {1, 2}),
        ([attempt(1), attempt(2)], [candidate("one"), candidate("two")], {1, 2}),
        ([attempt(1)], [candidate("one"), candidate("two")], {1}),
        ([attempt(1)], [candidate("one"), candidate("two", None)], {1}),
        ([attempt(1)], [candidate("one", None)], {1}),
        ([attempt(1)], [candidate("one", {})], {1}),
        # a chain: what is doubtful for one is so for whoever shares a candidate with it
        ([attempt(1), attempt(2, given={**BOAT, "cfg_scale": 0.4})], [candidate("one", {"prompt": "a boat"})], {1, 2}),
    ],
)
def test_what_cannot_be_told_apart_is_nobodys(
    attempts: list[OpenAttempt], candidates: list[Candidate], doubtful: set[int]
) -> None:
    matches = match(attempts, candidates, RULE)
    assert dict(matches.found) == {}
    assert matches.doubtful == {UUID(int=number) for number in doubtful}


def test_equal_attempts_far_apart_are_told_by_their_time() -> None:
    late = NOON + timedelta(hours=1)
    matches = match(
        [attempt(1), attempt(2, sent_from=late, sent_at=late)],
        [candidate("one"), candidate("two", after=timedelta(hours=1))],
        RULE,
    )
    assert matches.found == {UUID(int=1): "one", UUID(int=2): "two"}


_INPUTS = [BOAT, SHIP, {"prompt": "a boat"}]


@given(
    ours=st.lists(st.tuples(st.sampled_from(_INPUTS), st.integers(0, 3)), max_size=6),
    theirs=st.lists(st.tuples(st.sampled_from([*_INPUTS, None]), st.integers(0, 3)), max_size=6),
)
def test_no_request_is_given_twice_and_none_in_doubt(
    ours: list[tuple[dict[str, object], int]], theirs: list[tuple[dict[str, object] | None, int]]
) -> None:
    moments = [NOON + timedelta(minutes=4 * n) for n in range(4)]
    attempts = [
        attempt(n, given=given, sent_from=moments[at], sent_at=moments[at]) for n, (given, at) in enumerate(ours)
    ]
    candidates = [Candidate(f"request {n}", moments[at], given) for n, (given, at) in enumerate(theirs)]
    matches = match(attempts, candidates, RULE)
    assert len(set(matches.found.values())) == len(matches.found)
    assert not matches.found.keys() & matches.doubtful
    by_id = {one.attempt_id: one for one in attempts}
    for (attempt_id, found), other in itertools.product(matches.found.items(), candidates):
        is_possible = (
            is_in_time(by_id[attempt_id], other.sent_at, RULE)
            and liken(by_id[attempt_id].given, other.given) is not Likeness.OTHER
        )
        assert is_possible == (other.fal_request_id == found)
