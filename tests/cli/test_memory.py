"""What a serving process is made of is not looked through again and again."""

import gc

from app.web.memory import settle_memory


def test_what_is_there_is_passed_over_and_what_comes_later_is_collected() -> None:
    before: list[list[object]] = [[] for _ in range(1000)]
    settle_memory()
    try:
        later: list[object] = []
        assert gc.get_freeze_count() > len(before)
        looked_through = {id(each) for each in gc.get_objects()}
        assert id(before[0]) not in looked_through
        assert id(later) in {id(each) for each in gc.get_objects()}
    finally:
        gc.unfreeze()
