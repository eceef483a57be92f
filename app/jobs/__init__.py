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

What always holds
- A row is its own queue entry: what is due is `status` and `next_check_at`, claimed with SKIP LOCKED; the claim
  moves `next_check_at` and so is the lease. Leases use the database's clock.
- `submitting` and the attempt's row are committed before the POST; an answer is stored on its attempt whenever it
  comes; the job moves only by compare-and-set on status and attempt.
- A submit whose outcome is unknown is not sent again: `unconfirmed` waits for fal's answer or for an admin.
- A job ends in `ending.py`, whoever noticed; ended means `finished_at` is set.
- Callers' reads never call fal, and never write.
"""
