"""The input rules of the models that are known here (FAL.md 7.2, 7.3), told only when the job runs, as fal does.

`@fal-ai/client` 1.10.1 has their fields (types/endpoints.d.ts:17221-17505, 38006, 44566-44571), ZOD (FAL.md, source
keys) their bounds; 2.1 Pro is only at fal.ai/models/fal-ai/kling-video/v2.1/pro/image-to-video/llms.txt.
"""

from collections.abc import Callable
from typing import Any

KLING = "fal-ai/kling-video"
TEXT_TO_VIDEO = f"{KLING}/v2.1/master/text-to-video"
IMAGE_TO_VIDEO = f"{KLING}/v2.1/master/image-to-video"
VEO = "fal-ai/veo3.1"

PROMPT_CHARACTERS = 2500
VEO_PROMPT_CHARACTERS = 20_000
DEFAULT_SECONDS = {VEO: 8.0}
USUAL_SECONDS = 5.0

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


def asked_seconds(endpoint: str, given: Any) -> float:
    """Return the seconds asked for: `"5"`, `"8s"` and 5 are all in use among models (FAL.md 7.3)."""
    usual = DEFAULT_SECONDS.get(endpoint, USUAL_SECONDS)
    duration = given.get("duration") if isinstance(given, dict) else None
    try:
        seconds = float(str(duration).removesuffix("s"))
    except ValueError:
        return usual
    return seconds if 0 < seconds <= 60 else usual  # noqa: PLR2004 - no model renders a minute


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


def _switch(name: str, given: Any) -> Problem | None:
    if isinstance(given, bool):
        return None
    return make_problem(["body", name], "Input should be a valid boolean", "bool_type", given)


def _whole(name: str, given: Any) -> Problem | None:
    if isinstance(given, int) and not isinstance(given, bool):
        return None
    return make_problem(["body", name], "Input should be a valid integer", "int_type", given)


SHARED: dict[str, Rule] = {
    "prompt": _text(PROMPT_CHARACTERS),
    "duration": _one_of("5", "10"),
    "negative_prompt": _text(PROMPT_CHARACTERS),
}
SCALE: dict[str, Rule] = {"cfg_scale": _share}
RATIO: dict[str, Rule] = {"aspect_ratio": _one_of("16:9", "9:16", "1:1")}
SOUND: dict[str, Rule] = {"generate_audio": _switch}
ONE_IMAGE: dict[str, Rule] = {"image_url": _address}
TWO_IMAGES: dict[str, Rule] = {"image_url": _address, "tail_image_url": _address}
START_AND_END: dict[str, Rule] = {"start_image_url": _address, "end_image_url": _address}
VEO_RULES: dict[str, Rule] = {
    "prompt": _text(VEO_PROMPT_CHARACTERS),
    "aspect_ratio": _one_of("16:9", "9:16"),
    "duration": _one_of("4s", "6s", "8s"),
    "negative_prompt": _text(),
    "resolution": _one_of("720p", "1080p", "4k"),
    "seed": _whole,
    "auto_fix": _switch,
    "safety_tolerance": _one_of("1", "2", "3", "4", "5", "6"),
}
OF_TEXT = ("prompt",)
OF_IMAGE = ("prompt", "image_url")
RULES: dict[str, tuple[tuple[str, ...], dict[str, Rule]]] = {
    TEXT_TO_VIDEO: (OF_TEXT, SHARED | SCALE | RATIO),
    IMAGE_TO_VIDEO: (OF_IMAGE, SHARED | SCALE | ONE_IMAGE),
    f"{KLING}/v2.1/standard/image-to-video": (OF_IMAGE, SHARED | SCALE | ONE_IMAGE),
    f"{KLING}/v2.1/pro/image-to-video": (OF_IMAGE, SHARED | SCALE | TWO_IMAGES),
    f"{KLING}/v2.5-turbo/pro/text-to-video": (OF_TEXT, SHARED | SCALE | RATIO),
    f"{KLING}/v2.5-turbo/pro/image-to-video": (OF_IMAGE, SHARED | SCALE | TWO_IMAGES),
    f"{KLING}/v2.5-turbo/standard/image-to-video": (OF_IMAGE, SHARED | SCALE | ONE_IMAGE),
    f"{KLING}/v2.6/pro/text-to-video": (OF_TEXT, SHARED | SCALE | RATIO | SOUND),
    f"{KLING}/v2.6/pro/image-to-video": (("prompt", "start_image_url"), SHARED | SOUND | START_AND_END),
    VEO: (OF_TEXT, VEO_RULES | SOUND),
}
