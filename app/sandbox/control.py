"""What tests and demos ask of the sandbox; clearly not fal's, and without a key.

| call | body → answer |
|---|---|
| `GET /_sandbox/requests` | all jobs, oldest first; `?request_id=`, `?endpoint=`, `?prompt=` (a part of it) |
| `PATCH /_sandbox/requests/{id}` | `{"status": IN_QUEUE, IN_PROGRESS or COMPLETED}`: move it there now |
| `DELETE /_sandbox/requests` | forget all jobs and counts |
| `GET /_sandbox/state` | `{speed, concurrency, accepted, statuses, calls, faults}` |
| `POST /_sandbox/faults` | `{"fault", "call"?, "times"?, "accepted"?, "seconds"?, "prompt"?}`: set one more |
| `DELETE /_sandbox/faults` | clear them |
| `GET /_sandbox/webhooks` | `{habits, webhooks, tries}`; `?request_id=` |
| `POST /_sandbox/webhooks` | any of `habits`: how they go wrong from now on |
| `DELETE /_sandbox/webhooks` | forget what is still to be told and what was tried, and all goes well again |
| `GET /_sandbox/files` | what was uploaded, oldest first |
| `DELETE /_sandbox/files` | forget it |
| `POST /_sandbox/keys` | `{"keep"?: true}`: sign with a new key; the older ones stay published, or not |
| `POST /_sandbox/sign` | `{"body", "request_id", "user_id"?, "timestamp"?}` → `{headers}`, signed as fal would |
| `POST /_sandbox/account` | `{"user_id"?, "balance_usd"?: "100.00"}` → both |
| `GET /_sandbox/prices` | `{prices}`: what fal's price list says |
| `POST /_sandbox/prices` | `{"endpoint_id", "unit_price": "0.30" (null: not listed), "unit"?, "currency"?}` → it too |
| `DELETE /_sandbox/prices` | as they were |
| `POST /_sandbox/list` | `{"lag_seconds"}`: so late the request list names what has started, and ended |
| `GET /_sandbox/bill` | `{lag_seconds, billing_events}`: all that the bill tells by now, the newest first |
| `POST /_sandbox/bill` | `{"lag_seconds"?, "change"?, "extra"?}`: how it is late and wrong from now on |
| `DELETE /_sandbox/bill` | it is at once and right again |
| `POST /_sandbox/speed` | `{"speed"?: 10, "advance"?: 2.5}`; speed 0 stops the clock, advance moves it on |
| `GET /_sandbox/scripts` | the words for prompts, the faults, the keys that are refused |

`fault` is a name in faults.FAULTS. `call`: submit, status, stream, result, cancel, jwks, list, billing, pricing, bill,
erase,
initiate and put (the two steps of an upload), or any (as without it). `times`: so many calls; without it until cleared.
`accepted`: the submit, cancel or upload is carried out all the same, only its answer is spoilt. `prompt`: only calls
about a job whose prompt contains this. `seconds`: how late the right answer of the fault `slow` is (`accepted`: carried
out at once, and only then the wait). The first fault that fits a call is the one it meets.
`change` of the bill: a list of `{"request_id", "cost_usd"?: "1.50" or null, "events"?: 3}`: another cost, left out, in
so many events. `extra`: a list of `{"request_id", "endpoint_id", "cost_usd", "units"?, "timestamp"?, "auth_method"?}`,
one more event each: of somebody else's request, or, with a negative cost, a correction.
`habits` of webhooks are the members of outbox.Habits: `enabled`, `drop`, `delay_seconds`, `copies`, `reverse`,
`payload`, `timeout_seconds`. To sign as another of fal's accounts, set another `user_id`.
A job moved by hand takes no slot of `concurrency`; moved to IN_QUEUE it stays there until moved again.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from math import inf
from typing import Any

from app.sandbox.account import read_usd
from app.sandbox.answers import Answer, json_answer
from app.sandbox.bill import Bill, describe, events_told
from app.sandbox.box import Box
from app.sandbox.calls import Call
from app.sandbox.faults import FAULTS, read_fault
from app.sandbox.jobs import ENDED, Job
from app.sandbox.outbox import Habits, change_habits
from app.sandbox.scripts import SCRIPTS
from app.sandbox.submits import SCRIPTED_KEYS, read_json
from app.sandbox.uploads import File

PREFIX = "_sandbox/"


async def answer_control(box: Box, call: Call) -> Answer:
    """Answer one control call; 400 says what is wrong with its body."""
    name, _, request_id = call.path.removeprefix(PREFIX).partition("/")
    route = ROUTES.get((call.method, name))
    if route is None:
        return json_answer(404, {"detail": f"{call.method} is none of: {sorted(ROUTES)}"})
    body = await call.body()
    given = read_json(body) if body else None
    if isinstance(given, Answer):
        return given
    try:
        content = route(box, {**call.query(), **({"request_id": request_id} if request_id else {})}, given)
    except (ValueError, KeyError, TypeError, AttributeError) as wrong:
        return json_answer(400, {"detail": str(wrong)})
    box.outbox.changed.set()
    return json_answer(200, content)


def _list_requests(box: Box, query: dict[str, str], _given: Any) -> dict[str, Any]:
    moment = box.read_clock()
    jobs = [job for job in box.jobs.values() if _is_wanted(job, query)]
    return {"requests": [describe_job(box, job, moment) for job in jobs]}


def _is_wanted(job: Job, query: dict[str, str]) -> bool:
    prompt = str(job.input.get("prompt", "")) if isinstance(job.input, dict) else ""
    return (
        query.get("request_id", job.request_id) == job.request_id
        and query.get("endpoint", job.endpoint) == job.endpoint
        and query.get("prompt", "") in prompt
    )


def describe_job(box: Box, job: Job, moment: float) -> dict[str, Any]:
    """Return what is known of a job; of its key only a fingerprint.

    `billable_units` is what the header says or would (null: no header), `billed_units` what fal's bill says, at
    `unit_price_usd` each.
    """
    status = job.status_at(moment)
    has_ended, webhook = status == ENDED, box.outbox.webhooks.get(job.request_id)
    return {
        "request_id": job.request_id,
        "endpoint": job.endpoint,
        "input": job.input,
        "key_fingerprint": job.key_fingerprint,
        "headers": job.headers,
        "submitted_at": _write_time(job.submitted_at),
        "started_at": _write_time(box.wall_time(job, job.started)) if job.has_started_by(moment) else None,
        "ended_at": _write_time(box.wall_time(job, job.ends_at())) if has_ended else None,
        "status": status,
        "outcome": job.outcome() if has_ended else None,
        "result_status": job.result(job.origin).status if has_ended else None,
        "billable_units": job.billable_units() if has_ended else None,
        "billed_units": f"{job.billed_units():f}" if has_ended else None,
        "unit_price_usd": f"{job.unit_price_usd:f}",
        "erased": job.erased,
        "webhook": webhook and {"url": webhook.url, "state": webhook.state, "tries": webhook.tries},
        "calls": job.calls,
    }


def _write_time(wall: float) -> str:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")


def _move_request(box: Box, query: dict[str, str], given: Any) -> dict[str, Any]:
    job, moment = box.jobs[query["request_id"]], box.read_clock()
    job.move(given["status"], moment)
    box.outbox.look_again(job)
    return describe_job(box, job, moment)


def _forget_requests(box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    box.forget()
    return {}


def _describe_state(box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    moment = box.read_clock()
    return {
        "speed": box.clock.speed,
        "concurrency": box.settings.concurrency,
        "accepted": len(box.jobs),
        "statuses": Counter(job.status_at(moment) for job in box.jobs.values()),
        "calls": box.calls,
        "list_lag_seconds": box.list_lag_seconds,
        "faults": [asdict(fault) for fault in box.faults if fault.times_left],
    }


def _set_fault(box: Box, _query: dict[str, str], given: Any) -> dict[str, Any]:
    fault = read_fault(given)
    box.faults = [*(other for other in box.faults if other.times_left), fault]
    return asdict(fault)


def _clear_faults(box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    box.faults = []
    return {}


def _list_webhooks(box: Box, query: dict[str, str], _given: Any) -> dict[str, Any]:
    wanted = query.get("request_id")
    webhooks = [each for each in box.outbox.webhooks.values() if wanted in (None, each.job.request_id)]
    return {
        "habits": asdict(box.outbox.habits),
        "webhooks": [
            {"request_id": each.job.request_id, "url": each.url, "state": each.state, "tries": each.tries}
            for each in webhooks
        ],
        "tries": [asdict(each) for each in box.outbox.tries if wanted in (None, each.request_id)],
    }


def _set_webhooks(box: Box, _query: dict[str, str], given: Any) -> dict[str, Any]:
    box.outbox.habits = change_habits(box.outbox.habits, given)
    return asdict(box.outbox.habits)


def _forget_webhooks(box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    box.outbox.habits = Habits()
    box.outbox.forget()
    return {}


def _list_files(box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    return {"files": [_describe_file(file) for file in box.uploads]}


def _describe_file(file: File) -> dict[str, Any]:
    """Return what is known of an upload; size and digest are null while it is only initiated."""
    content = file.content
    return {
        "name": file.name,
        "content_type": file.content_type,
        "size_bytes": None if content is None else len(content),
        "sha256": None if content is None else hashlib.sha256(content).hexdigest(),
        "key_fingerprint": file.key_fingerprint,
        "put_with_key": file.put_with_key,
    }


def _forget_files(box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    box.uploads.forget()
    return {}


def _rotate_keys(box: Box, _query: dict[str, str], given: Any) -> dict[str, Any]:
    box.keys.rotate(keep=bool(given.get("keep", True)) if given else True)
    return dict(box.keys.publish())


def _sign(box: Box, _query: dict[str, str], given: Any) -> dict[str, Any]:
    user_id, timestamp = given.get("user_id", box.account.user_id), given.get("timestamp")
    return {
        "headers": box.keys.sign(
            given["body"].encode(), request_id=given["request_id"], user_id=user_id, timestamp=timestamp
        )
    }


def _set_account(box: Box, _query: dict[str, str], given: Any) -> dict[str, Any]:
    account, billed = box.account, box.billed_usd(box.read_clock())
    if "balance_usd" in given:
        account.set_balance(read_usd(given["balance_usd"]), billed)
    account.user_id = str(given.get("user_id", account.user_id))
    return {"user_id": account.user_id, "balance_usd": f"{account.balance_usd(billed):f}"}


def _list_prices(box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    return {"prices": box.prices.describe()}


def _set_price(box: Box, query: dict[str, str], given: Any) -> dict[str, Any]:
    box.prices.change(given)
    return _list_prices(box, query, given)


def _reset_prices(box: Box, query: dict[str, str], given: Any) -> dict[str, Any]:
    box.prices.reset()
    return _list_prices(box, query, given)


def _set_list(box: Box, _query: dict[str, str], given: Any) -> dict[str, Any]:
    lag = float(given["lag_seconds"])
    if not 0 <= lag < inf:
        raise ValueError("lag_seconds is a number not below 0")
    box.list_lag_seconds = lag
    return {"lag_seconds": lag}


def _tell_bill(box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    events = [describe(event) for event in events_told(box, box.read_clock())]
    return {"lag_seconds": box.bill.lag_seconds, "billing_events": events}


def _set_bill(box: Box, _query: dict[str, str], given: Any) -> dict[str, Any]:
    box.bill.change(given)
    return {"lag_seconds": box.bill.lag_seconds}


def _reset_bill(box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    box.bill = Bill()
    return {}


def _set_speed(box: Box, _query: dict[str, str], given: Any) -> dict[str, Any]:
    speed, advance = float(given.get("speed", box.clock.speed)), float(given.get("advance", 0))
    if not (0 <= speed < inf and 0 <= advance < inf):
        raise ValueError("speed and advance are numbers not below 0")
    box.clock.set_speed(speed)
    box.clock.advance(advance)
    return {"speed": speed}


def _list_scripts(_box: Box, _query: dict[str, str], _given: Any) -> dict[str, Any]:
    scripts = [{"word": each.word, "stage": each.stage, "sentence": each.sentence} for each in SCRIPTS]
    return {"scripts": scripts, "faults": list(FAULTS), "keys": SCRIPTED_KEYS}


ROUTES: dict[tuple[str, str], Callable[[Box, dict[str, str], Any], dict[str, Any]]] = {
    ("GET", "requests"): _list_requests,
    ("PATCH", "requests"): _move_request,
    ("DELETE", "requests"): _forget_requests,
    ("GET", "state"): _describe_state,
    ("POST", "faults"): _set_fault,
    ("DELETE", "faults"): _clear_faults,
    ("GET", "webhooks"): _list_webhooks,
    ("POST", "webhooks"): _set_webhooks,
    ("DELETE", "webhooks"): _forget_webhooks,
    ("GET", "files"): _list_files,
    ("DELETE", "files"): _forget_files,
    ("POST", "keys"): _rotate_keys,
    ("POST", "sign"): _sign,
    ("POST", "account"): _set_account,
    ("GET", "prices"): _list_prices,
    ("POST", "prices"): _set_price,
    ("DELETE", "prices"): _reset_prices,
    ("POST", "list"): _set_list,
    ("GET", "bill"): _tell_bill,
    ("POST", "bill"): _set_bill,
    ("DELETE", "bill"): _reset_bill,
    ("POST", "speed"): _set_speed,
    ("GET", "scripts"): _list_scripts,
}
