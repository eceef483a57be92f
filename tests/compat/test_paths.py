"""What the paths of fal's protocol ask for."""

from uuid import UUID

import pytest

from app.compat.paths import NoCall, RequestCall, RunCall, SubmitCall, alias_of, is_base_of, parse_below

from .asking import ALIAS, TEXT

JOB = UUID(int=7)
ID = f"job_{JOB.hex}"


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("path", "call"),
    [
        (TEXT, SubmitCall(TEXT)),
        ("wan/v2.6/text-to-video", SubmitCall("wan/v2.6/text-to-video")),
        ("comfy/ann/flow", SubmitCall("comfy/ann/flow")),
        (f"run/{TEXT}", RunCall(TEXT)),
        (f"{ALIAS}/requests/{ID}", RequestCall(ALIAS, JOB, "result")),
        (f"{ALIAS}/requests/{ID}/response", RequestCall(ALIAS, JOB, "result")),
        (f"{ALIAS}/requests/{ID}/status", RequestCall(ALIAS, JOB, "status")),
        (f"{ALIAS}/requests/{ID}/status/stream", RequestCall(ALIAS, JOB, "stream")),
        (f"{ALIAS}/requests/{ID}/cancel", RequestCall(ALIAS, JOB, "cancel")),
        (f"{TEXT}/requests/{ID}/status", RequestCall(TEXT, JOB, "status")),
        (f"wan/v2.6/requests/{ID}", RequestCall("wan/v2.6", JOB, "result")),
        (f"kling/v4/requests/{ID}/cancel", RequestCall("kling/v4", JOB, "cancel")),
        (f"workflows/ann/film/requests/{ID}", RequestCall("workflows/ann/film", JOB, "result")),
        (f"{ALIAS}/requests/somebodys-own-id", RequestCall(ALIAS, None, "result")),
    ],
)
def test_every_spelling_of_a_call_is_read(path: str, slash: str, call: object) -> None:
    assert parse_below(path + slash) == call


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "fal-ai", "fal-ai/", "fal-ai//boat", "run", "run/", "run/fal-ai", "comfy/ann",
        f"fal-ai/requests/{ID}", f"{ALIAS}/requests/{ID}/logs", f"{ALIAS}/requests/{ID}/status/x",
        f"comfy/ann/requests/{ID}", f"{ALIAS}/requests/{ID}//cancel", "a/" + "b" * 1001,
    ],
)  # fmt: skip
def test_what_is_no_call_is_said_to_be_none(path: str) -> None:
    call = parse_below(path)
    assert isinstance(call, NoCall)
    assert call.detail.endswith("not found")


@pytest.mark.parametrize(
    "path", [f"{TEXT}/stream", f"run/{TEXT}/stream", f"run/{TEXT}/stream/", f"{TEXT}/realtime", "tokens", "tokens/x"]
)
def test_ways_round_the_queue_are_refused_with_a_sentence(path: str) -> None:
    call = parse_below(path)
    assert isinstance(call, NoCall)
    assert call.detail.startswith("The gateway")


def test_an_alias_has_two_segments_and_three_in_a_namespace() -> None:
    assert alias_of(TEXT) == ALIAS
    assert alias_of("comfy/ann/flow/fast") == "comfy/ann/flow"
    assert is_base_of(ALIAS, TEXT)
    assert is_base_of(TEXT, TEXT)
    assert not is_base_of("fal-ai/kling-video/v2.1", TEXT)
    assert not is_base_of("fal-ai/veo3", TEXT)
