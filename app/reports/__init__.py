"""Where the money went: reads over the same entries, and what compares them with fal's bill.

What always holds
- A report's total is the sum of its lines, and of the ledger: nothing is kept here that is not in entries, but for
  fal's own bill.
- An entry counts on the day that it was booked, in TIMEZONE; `app.ledger.windows` says where days begin.
- A member sees itself, a lead its team, finance and admin all.
- Reports never have all connections (`desks`), and no connection while their reader takes what it was sent.

Where things are
- `spend` (sums, by any groups), `refusals` (how often was no), `lines` (`jobs.csv`, `focus.csv`: streamed)
- `explanation`: what one job cost and why
- `fal_bill`: fal's billing events beside our attempts, daily and when asked
- asked for by `period` and `calendar`, in one of the `formats`; every CSV is as `csv` says; `tables`
"""
