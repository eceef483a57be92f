"""Trouble on request: words in [brackets] in a prompt, the sandbox's test card numbers.

`SCRIPTS` is the table; several words in one prompt work together. Without a word everything goes well.
"""

import re
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall happen to one job; the defaults are a good day."""

    refusal: str = ""  # a name in faults.FAULTS: what the POST gets instead of its 200
    accepted: bool = True  # whether the job exists in spite of that
    foreign_urls: bool = False
    queue_times: float = 1.0
    render_times: float = 1.0
    starts: bool = True
    ends: bool = True
    requeued: bool = False
    running_word: str = "IN_PROGRESS"
    forgotten: bool = False
    ignores_cancel: bool = False
    silent_reads: int = 0  # so many first reads of status and result answer 403 "User is locked"
    garbled_results: int = 0  # so many first reads of the finished result answer an ingress' 502 page
    answered_late: bool = False
    unlisted: bool = False
    never_told: bool = False  # its webhook is not sent
    payload_error: bool = False
    lapsed: bool = False  # its video is not at its URL
    outcome: str = "video"  # a name in outcomes.OUTCOMES
    quiet: bool = False  # the status body does not tell that the job failed
    units: str | None = ""  # x-fal-billable-units; "" = as fal would, None = no such header


@dataclass(frozen=True, slots=True)
class Script:
    """One word, what it does to a job, and the sentence for the reader."""

    word: str
    stage: str
    sentence: str
    changes: dict[str, Any]


REFUSED = "content_policy_violation"


def _script(word: str, stage: str, sentence: str, **changes: Any) -> Script:
    return Script(word, stage, sentence, changes)


SCRIPTS = (
    # The POST is refused: no job exists.
    _script("refuse-at-submit", "submit", "422 with a detail list", refusal="422", accepted=False),
    _script("bad-request", "submit", "400 `bad_request`", refusal="400", accepted=False),
    _script("no-path", "submit", "404 `Path … not found`", refusal="404-path", accepted=False),
    _script("too-large", "submit", "413", refusal="413", accepted=False),
    _script("unknown-key", "submit", "401, as for a wrong key", refusal="401", accepted=False),
    _script("locked", "submit", "403 `User is locked. Reason: …`", refusal="403-locked", accepted=False),
    _script("busy", "submit", "429", refusal="429", accepted=False),
    _script("unavailable", "submit", "503 in fal's shape", refusal="503", accepted=False),
    _script("bad-gateway", "submit", "502 with an HTML page", refusal="502-html", accepted=False),
    _script("dropped", "submit", "connection reset, nothing recorded", refusal="reset", accepted=False),
    # The job exists, and the POST's answer does not say so.
    _script("lost", "submit", "recorded; connection closed without an answer", refusal="close"),
    _script("lost-502", "submit", "recorded; 502 with an HTML page", refusal="502-html"),
    _script("lost-500", "submit", "recorded; 500 in fal's shape", refusal="500"),
    _script("cut", "submit", "recorded; connection closed in the middle of the 200", refusal="cut"),
    _script("garbled", "submit", "recorded; a 200 whose JSON ends in its middle", refusal="truncated"),
    _script("empty", "submit", "recorded; a 200 without a body", refusal="empty"),
    _script("odd-code", "submit", "recorded; 202 instead of 200", refusal="202"),
    _script("silent", "submit", "recorded; no answer, the connection stays open", refusal="hang"),
    _script("elsewhere", "submit", "recorded; the URLs name another host", foreign_urls=True),
    _script(
        "late-answer",
        "submit",
        "recorded; the 200 comes when the job has ended and its webhook was tried",
        answered_late=True,
    ),
    # On its way.
    _script("slow", "run", "takes 20 times as long", render_times=20.0),
    _script("quick", "run", "no wait, a tenth of the rendering", queue_times=0.0, render_times=0.1),
    _script("requeue", "run", "IN_PROGRESS, back to IN_QUEUE, IN_PROGRESS again, done", requeued=True),
    _script("never-starts", "run", "stays IN_QUEUE; 504 when its start deadline passes", starts=False),
    _script("hang", "run", "IN_PROGRESS for ever, unless cancelled", ends=False),
    _script("unknown-status", "run", "while it runs its status is `PAUSED`", running_word="PAUSED"),
    _script("forgotten", "run", "once it would be done fal answers 404 for it", forgotten=True),
    _script("finishes-anyway", "run", "a cancel while running gets its 202, no more", ignores_cancel=True),
    _script("locked-later", "run", "the first three reads answer 403 `User is locked`", silent_reads=3),
    _script("unlisted", "run", "fal's request list never names it", unlisted=True),
    # How it ends.
    _script("refuse", "result", "422 `content_policy_violation`, 0 units", outcome=REFUSED),
    _script("refuse-billed", "result", "the same, billed in full", outcome=REFUSED, units="full"),
    _script("refuse-no-units", "result", "the same, no units header", outcome=REFUSED, units=None),
    _script("refuse-quietly", "result", "the same, and COMPLETED does not tell", outcome=REFUSED, quiet=True),
    _script("no-media", "result", "422 `no_media_generated`", outcome="no_media_generated"),
    _script("bad-image", "result", "422 `image_load_error`", outcome="image_load_error"),
    _script("400", "result", "400 `downstream_service_error`, retryable", outcome="downstream_service_error"),
    _script("403", "result", "the model's own 403", outcome="model_forbidden"),
    _script("500", "result", "500 `internal_server_error`", outcome="internal_server_error"),
    _script(
        "500-billed",
        "result",
        "the same, with a success' units",
        outcome="internal_server_error",
        units="full",
    ),
    _script(
        "downstream",
        "result",
        "500 `downstream_service_unavailable`",
        outcome="downstream_service_unavailable",
    ),
    _script("runner-lost", "result", "503 `runner_disconnected`, fal's own", outcome="runner_disconnected"),
    _script("timeout", "result", "504 `generation_timeout`", outcome="generation_timeout"),
    _script("garbled-result", "result", "done; two result reads answer 502 HTML first", garbled_results=2),
    _script("no-video", "result", "200 whose output has no video", outcome="no_video"),
    _script("lapsed-video", "result", "done; there is nothing at the URL of its video", lapsed=True),
    _script("odd-units", "result", "done; 3.008 billable units", units="3.008"),
    _script("zero-units", "result", "done; 0 billable units", units="0"),
    _script("no-units", "result", "done; no billable units header", units=None),
    # How that is told.
    _script("no-webhook", "webhook", "done; its webhook is never sent", never_told=True),
    _script(
        "bare-webhook", "webhook", "done; its webhook has `payload: null` and a `payload_error`", payload_error=True
    ),
)
BY_WORD = {script.word: script for script in SCRIPTS}
GOOD_DAY = Plan()
_WORD = re.compile(r"\[([a-z0-9-]+)\]")


def plan_for(prompt: object) -> Plan:
    """Return what the prompt's words ask for; unknown words ask for nothing."""
    if not isinstance(prompt, str) or "[" not in prompt:
        return GOOD_DAY
    plan = GOOD_DAY
    for word in _WORD.findall(prompt):
        if word in BY_WORD:
            plan = replace(plan, **BY_WORD[word].changes)
    return plan


def scripts_as_markdown() -> str:
    """Return the table as the README shows it."""
    rows = [f"| `[{script.word}]` | {script.stage} | {script.sentence} |" for script in SCRIPTS]
    return "\n".join(["| in the prompt | stage | what happens |", "|---|---|---|", *rows])
