"""The input rules of Kling 2.1 Master (FAL.md 7.2), told only when the job runs, as fal does."""

from collections.abc import Callable
from typing import Any

TEXT_TO_VIDEO = "fal-ai/kling-video/v2.1/master/text-to-video"
IMAGE_TO_VIDEO = "fal-ai/kling-video/v2.1/master/image-to-video"

PROMPT_CHARACTERS = 2500
DEFAULT_SECONDS = 5.0

Problem = dict[str, Any]
Rule = Callable[[str, Any], Problem | None]


def make_problem(
    loc: list[str], message: str, kind: str, given: object = None, *, ctx: dict[str, Any] | None = None
) -> Problem:
    """Return one entry of `detail` as models write it (FAL.md 2.1)."""
    problem = {"loc": loc, "msg": message, "type": kind, "url": f"https://docs.fal.ai/errors#{kind}"}
    shown = given[:100] if isinstance(given, str) else given
    return {**problem, **({"ctx": ctx} if ctx else {}), "input": shown}


def find_problems(endpoint: str, given: Any) -> list[Problem]:
    """Return everything that is wrong with the input; endpoints without rules need a prompt only."""
    if not isinstance(given, dict):
        return [make_problem(["body"], "Input should be a valid dictionary", "dict_type")]
    required, rules = RULES.get(endpoint, (("prompt",), {"prompt": _text()}))
    problems = [make_problem(["body", name], "Field required", "missing") for name in required if name not in given]
    checked = (rule(name, given[name]) for name, rule in rules.items() if name in given)
    return problems + [problem for problem in checked if problem]


def asked_seconds(given: Any) -> float:
    """Return the seconds asked for: `"5"`, `"8s"` and 5 are all in use among models (FAL.md 7.3)."""
    duration = given.get("duration") if isinstance(given, dict) else None
    try:
        seconds = float(str(duration).removesuffix("s"))
    except ValueError:
        return DEFAULT_SECONDS
    return seconds if 0 < seconds <= 60 else DEFAULT_SECONDS  # noqa: PLR2004 - no model renders a minute


def _text(longest: int | None = None) -> Rule:
    def rule(name: str, given: Any) -> Problem | None:
        if not isinstance(given, str):
            return make_problem(["body", name], "Input should be a valid string", "string_type", given)
        if longest is not None and len(given) > longest:
            message = f"String should have at most {longest} characters"
            return make_problem(["body", name], message, "sequence_too_long", given, ctx={"max_length": longest})
        return None

    return rule


def _one_of(*expected: str) -> Rule:
    def rule(name: str, given: Any) -> Problem | None:
        # `5` is not `"5"`: whether fal coerces is not known (FAL.md 7.2), so here it does not.
        if isinstance(given, str) and given in expected:
            return None
        *others, last = map(repr, expected)
        message = f"Input should be {', '.join(others)} or {last}"
        return make_problem(["body", name], message, "one_of", given, ctx={"expected": list(expected)})

    return rule


def _share(name: str, given: Any) -> Problem | None:
    if not isinstance(given, int | float) or isinstance(given, bool):
        return make_problem(["body", name], "Input should be a valid number", "float_type", given)
    if given < 0:
        message = "Input should be greater than or equal to 0"
        return make_problem(["body", name], message, "greater_than_equal", given, ctx={"ge": 0})
    if given > 1:
        message = "Input should be less than or equal to 1"
        return make_problem(["body", name], message, "less_than_equal", given, ctx={"le": 1})
    return None


def _address(name: str, given: Any) -> Problem | None:
    if not isinstance(given, str):
        return make_problem(["body", name], "Input should be a valid string", "string_type", given)
    if not given.startswith(("http://", "https://", "data:")):
        return make_problem(["body", name], "Failed to download the file", "file_download_error", given)
    return None


SHARED: dict[str, Rule] = {
    "prompt": _text(PROMPT_CHARACTERS),
    "duration": _one_of("5", "10"),
    "negative_prompt": _text(PROMPT_CHARACTERS),
    "cfg_scale": _share,
}
RULES: dict[str, tuple[tuple[str, ...], dict[str, Rule]]] = {
    TEXT_TO_VIDEO: (("prompt",), {**SHARED, "aspect_ratio": _one_of("16:9", "9:16", "1:1")}),
    IMAGE_TO_VIDEO: (("prompt", "image_url"), {**SHARED, "image_url": _address}),
}
