"""The rule of release by itself, against its definition word for word, and what it promises."""

from collections import Counter
from dataclasses import replace
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from app.jobs.at_fal.release import Line, pick


def _id(number: int) -> UUID:
    return UUID(int=number)


def by_definition(lines: list[Line], slots: int) -> list[UUID]:
    """Again and again: the team with the fewest in flight, of these the one whose turn is longest ago, of these the one
    with the oldest job to send; and in it the user likewise.
    """  # noqa: D205  one sentence
    in_flight, turns = Counter[object](), dict[object, int]()
    waiting: list[tuple[UUID, UUID, UUID]] = []
    for line in lines:
        in_flight[line.team_id] += line.in_flight
        in_flight[line.team_id, line.user_id] += line.in_flight
        turns[line.team_id] = line.team_turn
        turns[line.team_id, line.user_id] = line.user_turn
        waiting += [(line.team_id, line.user_id, job_id) for job_id in line.waiting]
    picked = []
    for now in range(1000, 1000 + slots):
        of_each_team = {
            team: min(
                (in_flight[team, user], turns[team, user], job_id, user) for t, user, job_id in waiting if t == team
            )
            for team, _, _ in waiting
        }
        if not of_each_team:
            break
        team = min(of_each_team, key=lambda team: (in_flight[team], turns[team], of_each_team[team][2]))
        _, _, job_id, user = of_each_team[team]
        waiting.remove((team, user, job_id))
        for subject in (team, (team, user)):
            in_flight[subject] += 1
            turns[subject] = now
        picked.append(job_id)
    return picked


@st.composite
def crowds(draw: st.DrawFn) -> list[Line]:
    """Up to twelve users in up to four teams, some with jobs in flight, some with jobs that wait, some had turns."""
    places = draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), max_size=12, unique=True))
    owners = draw(st.lists(st.sampled_from(places), max_size=30)) if places else []
    turns = draw(st.permutations(range(1, 30)))
    of_team = {team: turns[team] if draw(st.booleans()) else 0 for team, _ in places}
    return [
        Line(
            team_id=_id(team),
            user_id=_id(user),
            in_flight=draw(st.integers(0, 3)),
            team_turn=of_team[team],
            user_turn=turns[5 + number] if draw(st.booleans()) else 0,
            waiting=[_id(100 + job) for job, owner in enumerate(owners) if owner == (team, user)],
        )
        for number, (team, user) in enumerate(places)
    ]


@given(crowds(), st.integers(0, 40))
def test_it_picks_as_the_definition_says(lines: list[Line], slots: int) -> None:
    assert pick(lines, slots) == by_definition(lines, slots)


@given(crowds(), st.integers(0, 40))
def test_what_is_in_flight_may_be_told_apart_from_what_waits(lines: list[Line], slots: int) -> None:
    apart = [Line(team_id=line.team_id, user_id=line.user_id, in_flight=line.in_flight) for line in lines]
    assert pick([*apart, *(replace(line, in_flight=0) for line in lines)], slots) == pick(lines, slots)


@given(crowds(), st.integers(0, 40))
def test_no_slot_stays_free_while_something_waits(lines: list[Line], slots: int) -> None:
    assert len(pick(lines, slots)) == min(slots, sum(len(line.waiting) for line in lines))


def _line(team: int, user: int, in_flight: int, turns: tuple[int, int], *waiting: int) -> Line:
    return Line(
        team_id=_id(team),
        user_id=_id(user),
        in_flight=in_flight,
        team_turn=turns[0],
        user_turn=turns[1],
        waiting=[_id(number) for number in waiting],
    )


def test_teams_come_before_users_and_users_before_turns_and_turns_before_age() -> None:
    lines = [
        _line(1, 11, 0, (5, 0), 100),  # the oldest job, of a user without any, but its team has three in flight
        _line(1, 12, 3, (5, 5)),
        _line(2, 21, 1, (4, 1), 101),  # older, and its turn longer ago, but it has one in flight
        _line(2, 22, 0, (4, 4), 102, 104),
        _line(3, 31, 1, (3, 3), 103),  # its team has as many in flight as the second, and its turn is longer ago
    ]
    assert pick(lines, 9) == [_id(number) for number in (103, 102, 101, 100, 104)]


@settings(deadline=None, max_examples=25)
@given(
    slots=st.integers(1, 8),
    hogs=st.integers(1, 10),
    arrives=st.integers(0, 60),
    same_team=st.booleans(),
    turns=st.lists(st.integers(1, 9), min_size=60, max_size=60),
)
def test_a_thousand_jobs_of_one_user_delay_the_first_of_another_by_one_slots_turn(
    *, slots: int, hogs: int, arrives: int, same_team: bool, turns: list[int]
) -> None:
    """However many have a thousand waiting: once each had a turn, the newcomer gets the slot that is free next."""
    waiting = {user: [_id(1000 * user + n) for n in range(1000)] for user in range(1, hogs + 1)}
    team_of = dict.fromkeys(range(hogs + 1), 100) if same_team else {user: 100 + user for user in range(hogs + 1)}
    running: list[tuple[int, int]] = []  # when each ends, whose it is
    had_turn: dict[int, int] = {}
    came_at: int | None = None
    for now in range(1000):
        running = [(ends, user) for ends, user in running if ends > now]
        if now >= arrives and len(had_turn) == hogs and came_at is None:
            came_at, waiting[0] = now, [_id(99_000)]
        lines = [
            _line(
                team_of[user],
                user,
                sum(one == user for _, one in running),
                (max((at for one, at in had_turn.items() if team_of[one] == team_of[user]), default=0), turn),
                *(job_id.int for job_id in waiting[user][:slots]),
            )
            for user in waiting
            for turn in [had_turn.get(user, 0)]
        ]
        picked = pick(lines, slots - len(running))
        if came_at is not None and picked:
            assert picked[0] == _id(99_000)
            assert now - came_at <= max(turns)
            return
        assert len(picked) == slots - len(running), "a slot stayed free"
        for n, job_id in enumerate(picked):
            user = job_id.int // 1000
            waiting[user].remove(job_id)
            had_turn[user] = 1 + now * 10 + n
            running.append((now + turns[(now + n) % 60], user))
    raise AssertionError("it never went")
