"""The table of failpoints is whole: no commit and no call to fal stands in the source without its line."""

from tests.chaos.failpoints import FAILPOINTS, NOT_KILLED, sites


def test_every_commit_and_every_call_to_fal_has_its_line_in_the_table() -> None:
    in_source = {name for name in FAILPOINTS if not name.startswith("answer ")} | set(NOT_KILLED)
    assert in_source == sites()
