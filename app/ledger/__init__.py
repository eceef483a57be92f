"""Holds, entries and quotas: what is promised, what was charged, and what may not be exceeded.

A job's money moves like this, and each arrow happens once:

    hold ──► settle   the quote is charged, unless fal billed nothing
         └─► void     nothing is charged, the promise is given back
    (beside them: overage, a bill of a fal request that was not its job's current one; adjustment, a correction)

What always holds
- Entries are only ever added. A job's hold has its job's id; settle or void names it in `resolves_id`, once.
- `quota_usage`, `spend_daily` and `spend_monthly` are caches of entries, written in the transaction that writes the
  entries. `falgate audit` proves it.
- A quota is guarded by `used + held + amount <= maximum` on rows locked FOR UPDATE: nobody compares first and
  subtracts later.
- The order of locks, for whoever holds or settles: the quotas' advisory lock (shared), windows by id, jobs, entries.
  Whoever creates, deletes or backfills takes the advisory lock exclusively, so none of the others is under way.
- Every entry is booked at its moment or at `books.open_since`, whichever is later. Whoever closes a month moves that,
  with the lock held exclusively: what a closed month comes to does not change.
- A job remembers the windows it was held in. They are given back by the statement that ends the job, and by no
  other; what a window counts can therefore be told from jobs and entries alone.

Where things are
- `holds` places them, `settles` gives them back and books what comes beside them; both write `entries`, under `locks`,
  and raise `spend`, the sums by day and by month
- `quotas` (which apply to whom), `windows` (from when until when), `usage` (making one, with what came before in it);
  kept by people: `quota_book`; over HTTP: `routes`, `shapes`
- `prices`: the price book, and what is asked before a price is added; `months`: those that are closed
- `older_release`: what the release before this one books while replicas are exchanged
- `audit` compares every sum with entries; no money: `refusals` counts the submits that were refused
"""
