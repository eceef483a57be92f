"""Reconciling: what fal billed beside what we charged, fal request by fal request.

fal's billing events (FAL.md 6) are read whole for a period and kept in `fal_bills`: what is kept of that period becomes
what was read, so that late events are taken up, withdrawn ones let go, and the same bill read again changes nothing.
Everything else is told from what is kept, and calls nobody.

    matched     fal billed what we charged
    differs     fal billed something else: more, less, or something for a job that we gave back
    ours_only   we charged for it, and fal, asked GRACE later, had billed nothing
    fal_only    fal billed a request that is no job of ours: somebody uses the FAL_KEY elsewhere
    pending     too early to say: fal's event may still come, or our job has not ended

What we charged for a fal request: its job's settle, if the job ended with it; an overage, if it was a stray; and the
adjustments booked since. Adjusting is only done when asked for, exactly once, and never of what is pending, what is
not ours, or what somebody adjusted by hand.

Where things are
- `reading` (from fal), `keeping` (into the database), `lists` (the comparison, by the
  statement in `sql`), `adjusting` (what is booked of it)
- `run` puts them together; `runs` remembers when; `daily` is the gateway's own, a day
- over HTTP: `routes`, `shapes`
"""
