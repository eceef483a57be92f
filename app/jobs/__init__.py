"""Jobs: from the caller's submit to the one place where a job ends.

                 cancel, or QUEUE_SECONDS passed
        ┌──────────────────────────────────────────────────────────┐
        │                                                          ▼
    queued ──► submitting ──► submitted ◄──► running ──► succeeded · failed · canceled
        ▲          │  │           │  │           │                 ▲
        │          │  │           │  └─► queued: fal never started it (start deadline)
        └──────────┘  │           ▼              ▼                 │
     not sent, or     └────► unconfirmed ──► submitted and on ─────┤
     fal refused us    answer lost; silent;   the answer came late │
                       fal no longer knows it ──► an admin resolves┘
                       fal never had it ──► queued

(and `submitting` ──► failed, when fal refuses the input itself)

What always holds
- A row is its own queue entry: what is due is `status` and `next_check_at`, claimed with SKIP LOCKED; the claim
  moves `next_check_at` and so is the lease. Leases use the database's clock. A lease to send outlasts every call to
  fal; one to check is the interval, since a check may be made twice and moves the job once.
- `submitting` and the attempt's row are committed before the POST, and no POST goes out more than 5 s after; an answer
  is stored on its attempt whenever it comes; the job moves only by compare-and-set on status and attempt.
- A submit whose outcome is unknown is not sent again: `unconfirmed` waits for fal's answer, for fal's request list to
  name it, or for an admin; only the whole of the evidence (`evidence`) that fal never had it puts it back to `queued`.
- One fal request belongs to one attempt: whatever fits two is nobody's.
- Under FAL_CONCURRENCY what is at fal is counted from rows, under a lock, each time that a slot is given. Who was given
  one last stands in `turns`, by team and by user: of equals, the one whose turn is longest ago goes next.
- A fal request that is not its job's current one is a stray: cancelled at fal, its bill booked as overage.
- A result is read only after a status body said COMPLETED. What says nothing about the job is ours to mend. A failure
  that the status body did not speak of is doubted: read again for some seconds before it ends the job (`doubts`).
- fal's 404 for a job counts when said twice, a minute apart, under the key that sent it; then its request list decides.
- A job past its deadline is `unconfirmed` and cancelled at fal, by whoever made that one move; fal's result ends it.
- Whether fal takes jobs is one row for all replicas: while it does not, one probe at a time is sent, and nothing fails.
- A cancel is remembered whatever the status; a job that ended well all the same is charged.
- A job ends in `ends/ending.py`, whoever noticed; ended means `finished_at` is set.
- What is erased of a job that has ended is erased everywhere, in one transaction; its money, and that it was, stay.
- Callers' reads never call fal, and never write. No transaction is open while fal is called.

Where things are
- here: `tables`, `states`; `group` (what arrives together goes together); `rooms` (one of each, and every loop);
  `alerts` (a share of a quota is reached)
- `routes`: `jobs`, `adjustments`, `content`, `logs`, `tokens`, and what OpenAPI says of them (`schema`)
- `submits`: `request` → `submit` → `accept` (one transaction) ← `quotes`; `estimate` asks without taking
- `at_fal`: `dispatch` sends, `track` follows, `strays` tidies up; they take rows by `claims` and move them by `moves`;
  `receive` takes fal's webhooks and wakes `track`. Holding back: `upstream` (does fal take jobs?), `ramp` (how many may
  be on their way there at once), `breaker` (not more than so many dollars an hour); under FAL_CONCURRENCY: `release`
  (who goes next) and `standing` (where the others stand). When fal is in doubt: `doubts` (a failure that may be its own
  trouble), `told` (the webhook ends it). Beside the Job: `log_keeping` (what models write), `replies` (what fal's
  result said, for its own protocol), `balance`
- `unknown`: `gone` (fal's queue has forgotten it), `lost` and `lost_rows` (the answer to a submit was lost; the rule:
  `evidence`), `recover` (a restore)
- `ends`: `causes` (why) → `ending` (how, and the delivery that tells its caller); `charges` (what it costs); `cancel`,
  `resolve`, `overdue` (who else may end it); `adjust` (its charge corrected afterwards), `adjust_by_hand` (by finance);
  `fal_webhook` (as fal would tell it); `ended` (how many have)
- `forgetting`: `forget` (what is erased), by `erase` (somebody asked) or `retention` (PAYLOAD_DAYS); `fal_copies`
- `reads`: `read`, `glance` (what callers of fal's protocol read ten times a second), `listing`, `log_reading`, `wait`,
  woken by `hub`; `reach` (who may see), `wire` (what they see), `links` (where the video is), `seats` (how many wait)
"""
