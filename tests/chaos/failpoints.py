"""Where a gateway is killed: one table, and what follows from it.

A failpoint is a place in the code between two steps of which the first may be done and the second not: the COMMIT of a
transaction, a call to fal, an answer to a caller. Its name says what is done there and by which function, as
`victim` computes it while running and `sites` reads it from the source. Every commit and every call in `app/` has a
line, or a test fails.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

APP: Final = Path(__file__).parents[2] / "app"

FAILPOINTS: Final[dict[str, str]] = {
    # A job's way in.
    "commit app.jobs.submits.submit:Submits._run": "jobs accepted: idempotency keys, holds, windows, rows",
    "answer /fal/{id}/kling-video/v2.1/master/text-to-video": "the 200 in fal's words",
    "commit app.compat.repeats:Repeats._forget": "it was heard: an equal submit is another job",
    "commit app.ledger.usage:_create": "the first hold of a window: its row",
    "answer /v1/text-to-video": "the 202",
    "answer /v1/jobs/{id}": "a caller reads its job",
    "answer /v1/jobs/{id}/cancel": "a caller's cancel",
    "commit app.jobs.ends.cancel:_try_to_cancel": "the cancel of a job that fal may have, remembered",
    # To fal and back.
    "commit app.jobs.at_fal.standing:Standing.write_places": "places in the queue, a guess",
    "commit app.jobs.at_fal.claims:claim_queued": "`submitting`, and the attempt's row",
    "fal.submit app.jobs.at_fal.dispatch:Dispatcher._submit": "the POST",
    "commit app.jobs.at_fal.moves:Moves._accept": "fal's answer on its attempt, the job `submitted`",
    "commit app.jobs.at_fal.moves:Moves.put_back": "not sent, refused us, or never started: back to `queued`",
    "commit app.jobs.at_fal.moves:Moves.unconfirm": "the answer was lost, or the deadline has passed",
    "commit app.jobs.at_fal.moves:Moves.note_attempt": "what came of the attempt beside the job's own move",
    "commit app.jobs.at_fal.moves:Moves.unconfirm_lost": "jobs whose dispatcher was killed",
    # Is fal well?
    "commit app.jobs.at_fal.upstream:Upstream.leave": "the turn to send a probe",
    "commit app.jobs.at_fal.upstream:Upstream._failed": "fal takes no jobs, for every replica",
    "commit app.jobs.at_fal.upstream:Upstream._over": "fal takes jobs again",
    "commit app.jobs.at_fal.upstream:Upstream._give_back": "there was nothing to probe with",
    "commit app.jobs.at_fal.balance:BalanceWatch._claim": "whose turn it is to read the balance",
    "platform.balance app.jobs.at_fal.balance:BalanceWatch._read": "the balance",
    "commit app.jobs.at_fal.balance:BalanceWatch._read": "the balance kept",
    "commit app.jobs.at_fal.balance:BalanceWatch._warn_if_low": "whose turn it is to warn",
    "commit app.jobs.ends.ended:fold_ended": "how many ended, counted for /metrics",
    # Following.
    "commit app.jobs.at_fal.claims:claim_followed": "the lease of a check",
    "fal.status app.jobs.at_fal.track:Tracker._ask": "where does it stand?",
    "commit app.jobs.at_fal.log_keeping:LogKeeper._write": "what the model has written so far",
    "commit app.jobs.at_fal.moves:Moves._see": "fal says IN_QUEUE or IN_PROGRESS",
    "commit app.jobs.at_fal.moves:Moves.check_later": "nothing was learnt",
    "commit app.jobs.at_fal.moves:Moves.gone": "fal does not know it",
    "fal.cancel app.jobs.at_fal.track:Tracker._ask_to_cancel": "the caller's cancel, passed on",
    "fal.result app.jobs.at_fal.track:Tracker._read_result": "the result",
    # The end.
    "commit app.jobs.ends.ending:Endings._run": "the job's end: status, settle or void, windows, spend",
    "commit app.jobs.ends.resolve:resolve_job": "an admin ends an `unconfirmed` job",
    "answer /v1/jobs/{id}/resolve": "the admin is told so",
    # Webhooks from fal.
    "signatures.judge app.jobs.at_fal.receive:Receiver._verify": "is it fal's? (its keys may have to be fetched)",
    "commit app.jobs.at_fal.receive:Receiver._pin": "whose signature counts, learnt from a request that is known",
    "fal.status app.jobs.at_fal.receive:Receiver._ask": "does fal name this request to our key?",
    "commit app.jobs.at_fal.receive:Receiver._keep": "the webhook kept, the check due at once",
    "answer /webhooks/fal/{id}": "fal is told that we have it",
    # Lost answers.
    "commit app.jobs.unknown.lost_rows:claim_endpoints": "whose turn it is to ask fal's list",
    "platform.requests app.jobs.unknown.lost:LostAnswers._decide": "fal's request list",
    "platform.request app.jobs.unknown.lost:LostAnswers._input_of": "the input of one on the list",
    "platform.request app.jobs.unknown.gone:Forgotten.ask_the_list": "one that fal's queue no longer knows",
    "commit app.jobs.unknown.lost_rows:remember_absence": "the list did not name it, once",
    "commit app.jobs.unknown.lost_rows:queue_again": "fal never had it: back to `queued`",
    "commit app.jobs.unknown.lost_rows:note_absent": "fal never had what its caller had cancelled",
    # Webhooks to callers.
    "commit app.deliveries.claims:claim_due": "the lease of a try",
    "post.send app.deliveries.sender:Sender._try": "the delivery",
    "commit app.deliveries.claims:store_try": "what the receiver said",
    "commit app.deliveries.routes:get_webhook_secret": "a secret, made when it is first asked for",
    "commit app.deliveries.routes:rotate_webhook_secret": "another secret",
    "commit app.deliveries.routes:redeliver": "once more",
    "commit app.jobs.alerts:Alerts.tell": "a share of a quota was reached: marked, and its team told",
    "commit app.jobs.unknown.recover:ask_again": "after a restore: fal let go of what may have been sent again",
    # Strays.
    "commit app.jobs.at_fal.strays:Strays._turn": "the lease on a stray",
    "fal.cancel app.jobs.at_fal.strays:Strays._ask": "a stray is cancelled at fal",
    "fal.status app.jobs.at_fal.strays:Strays._ask": "where does the stray stand?",
    "fal.result app.jobs.at_fal.strays:Strays._ask": "the stray's result",
    "commit app.jobs.at_fal.strays:_book": "its bill as overage",
    "commit app.accounts.last_used:LastUsed.flush": "when keys were last used",
    # Administration.
    "answer (admin)": "an admin is told what was made or changed",
    "commit app.accounts.routes.teams:create_team": "a team",
    "commit app.accounts.routes.teams:change_team": "a team renamed or archived",
    "commit app.accounts.routes.freezes:create_freeze": "nobody of these may ask for a job",
    "commit app.accounts.routes.freezes:lift_freeze": "they may again",
    "commit app.accounts.routes.users:create_user": "a user",
    "commit app.accounts.routes.users:change_user": "a user's role, team or end",
    "commit app.accounts.routes.keys:create_key": "a key",
    "commit app.accounts.routes.keys:change_key": "a key renamed",
    "commit app.accounts.routes.keys:rotate_key": "a key exchanged for another",
    "commit app.accounts.routes.keys:revoke_key": "a key's end",
    "commit app.ledger.routes:create_quota": "a quota, its windows filled from entries",
    "commit app.ledger.routes:change_quota": "a quota's maximum",
    "commit app.ledger.routes:delete_quota": "a quota's end",
    "commit app.ledger.prices.routes:create_price": "a price to come",
    "commit app.ledger.prices.routes:delete_price": "a price that never came",
}

NOT_KILLED: Final[dict[str, str]] = {
    "commit app.jobs.submits.submit:Submits._find_made": "reads what became of a lost COMMIT; writes nothing",
    "commit app.jobs.at_fal.strays:Strays._follow": "gives up on a stray an hour after its deadlines",
    "commit app.ledger.audit:audit": "reads",
    "commit app.ledger.prices.simulation:simulate_price": "reads",
    "platform.prices app.ledger.prices.check:check_prices": "reads, and writes nothing",
    "commit app.ledger.spend:_alone": "a command's, which may be given again; each week is written whole or not",
    "commit app.ledger.older_release:count_older_ends": "so little is looked at again: nothing is lost",
    "commit app.ledger.older_release:_count": "one transaction, made anew by whoever looks next; no older release here",
    "commit app.ledger.refusals:RefusalCounts.flush": "a second's counts of refusals are lost: they are no money",
    "commit app.reports.limits:reading": "reads",
    "commit app.compat.waits:Waits.begin": "a direct call is waited for: a kill then is in tests/compat/test_waits.py",
    "commit app.compat.waits:Waits.take_over": "the same call again waits for the same job: as after `begin`",
    "commit app.compat.waits:Waits._write": "its caller has gone or been answered; a kill there is one before it",
    "commit app.jobs.at_fal.standing:Standing._forget": "forgets a guess, and only without FAL_CONCURRENCY",
    "commit app.deliveries.sender:Sender._sign": "a user's first secret, as `get_webhook_secret` makes it",
    "commit app.deliveries.claims:give_back": "when a gateway is told to end, not when it is killed",
    "commit app.files.stored:_count_in": "a file's row, before fal is asked; left over it counts for an hour",
    "storage.initiate app.files.stored:_initiate": "room at fal, which costs nothing while it is empty",
    "storage.put app.files.stored:store_upload": "the bytes, which fal lets go of in its own time",
    "commit app.files.stored:_say_where": "where it lies: its caller was told nothing, and sends it again",
    **dict.fromkeys(
        (
            "commit app.jobs.forgetting.erase:erase_payload",
            "commit app.jobs.forgetting.retention:Forgetting._forget_jobs",
            "commit app.jobs.forgetting.retention:Forgetting._forget_files",
            "commit app.jobs.forgetting.fal_copies:FalCopies._turn",
            "platform.erase_payloads app.jobs.forgetting.fal_copies:FalCopies._erase",
            "commit app.jobs.forgetting.fal_copies:FalCopies._erase",
            "commit app.jobs.forgetting.fal_copies:FalCopies._keep",
        ),
        "forgets the prompts by which the books are compared; ended at each step in tests/jobs/test_forgetting.py",
    ),
    **dict.fromkeys(
        (
            "commit app.reports.fal_bill.runs:begin_run",
            "commit app.reports.fal_bill.runs:begin_daily_run",
            "commit app.reports.fal_bill.runs:fail_run",
            "platform.bill_page app.reports.fal_bill.reading:_read_page",
            "commit app.reports.fal_bill.keeping:keep_bill",
            "commit app.reports.fal_bill.adjusting:_adjust",
            "commit app.reports.fal_bill.run:_remember",
        ),
        "a reconciliation: ended between its steps in tests/reports/test_reconciling.py",
    ),
    "commit app.outputs.rows:claim_outputs": "the archive, without OUTPUT_STORE here, is killed in tests/outputs",
    "commit app.outputs.rows:store_output": "as the line above",
    "commit app.outputs.rows:try_later": "a pause is lost: the lease ends instead",
    "commit app.outputs.rows:erase_later": "a pause is lost: the lease ends instead",
    "commit app.outputs.rows:give_back": "when a gateway is told to end, not when it is killed",
    "commit app.outputs.rows:remove_erased": "the file is deleted once more",
    "commit app.outputs.archive:erase": "the archive deletes what is marked",
    "downloads.open app.outputs.archive:Archive._fetch": "as the lease of the archive",
    "downloads.open app.outputs.serving:_open_at_fal": "a caller's read: nothing is written",
    "commit app.cli.migrate:migrate": "before there is a gateway",
    "commit app.cli.read_only:make_read_only_role": "before there is a gateway",
    "commit app.cli.migrate:move": "before there is a gateway; alembic's own",
    "commit app.jobs.unknown.recover:recover_jobs": "a command of its own; repeated, it does the same",
    "commit app.cli.close:_work": "a command of its own, not the gateway",
    "commit app.ledger.months.routes:close_month": "one transaction, and no month ends within an hour of kills",
    "commit app.ledger.months.routes:reopen_month": "as closing",
    "commit app.jobs.ends.adjust_by_hand:create_adjustment": "one transaction; the books compare charges with bills",
    "commit app.cli.keys:_work": "a command of its own, not the gateway",
}
"""Commits and calls in the source at which no gateway is killed, each with its reason."""

_COMMITS: Final = {"begin", "begin_plain"}
CALLS: Final = {
    "fal": {"submit", "status", "result", "cancel"},
    "platform": {"requests", "request", "balance", "prices", "erase_payloads", "bill_page"},
    "storage": {"initiate", "put"},
    "signatures": {"judge"},
    "post": {"send"},
    "downloads": {"open"},
}
"""What goes over the network, by what holds it in `Wiring`."""

_SENT: Final = {"fal.submit", "post.send"}


def steps(name: str) -> list[str]:
    """The moments of a failpoint: before and after it; of a POST also when its last byte has gone out."""
    kind = name.partition(" ")[0]
    return [f"{when} {name}" for when in ("before", *(["sent"] if kind in _SENT else []), "after")]


def sites() -> set[str]:
    """The names of every commit and call to fal that stands in the source."""
    found: set[str] = set()
    for path in sorted(APP.rglob("*.py")):
        module = ".".join(path.relative_to(APP.parent).with_suffix("").parts).removesuffix(".__init__")
        if not module.startswith(("app.sandbox", "app.db")):
            found.update(f"{what} {module}:{name}" for what, name in _calls(ast.parse(path.read_text()), ""))
    return found


def _calls(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _calls(child, f"{name}.{child.name}" if name else child.name)
            continue
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute):
            holder = child.func.value
            of = holder.attr if isinstance(holder, ast.Attribute) else holder.id if isinstance(holder, ast.Name) else ""
            of = of.removeprefix("_")
            if child.func.attr in _COMMITS and of == "db":
                yield "commit", name
            elif child.func.attr in CALLS.get(of, ()):
                yield f"{of}.{child.func.attr}", name
        yield from _calls(child, name)
