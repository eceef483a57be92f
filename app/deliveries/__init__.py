"""Deliveries: our webhooks to callers, stored with the end of a job and tried for a day.

What always holds
- A delivery is written in the transaction that ends its job, its body frozen there: both happen, or neither.
- It is sent at least once, under the same `webhook-id` on every try: whoever dies between sending and storing sends
  again. What is due is `status` + `next_try_at`, claimed with SKIP LOCKED; the claim moves `next_try_at` and so is the
  lease, and a try is stored only while its lease stands.
- A receiver takes at most `A_TARGET` places of this process, one once it has kept us waiting.
- We connect only to an address that we have checked ourselves; no redirect, proxy, cookie or compressed answer.
- A secret is sealed with SECRET_KEY wherever it is stored, and shown to its user alone.

Where things are
- in: `outbox` writes the row; which URLs may be asked for, and which addresses called, `app.outward` says
- out: `sender` (the loop) claims by `claims`, signs by `secrets` (in fal's shape by `fal_keys`), sends by `post`,
  and tries again by `retries`
- over HTTP: `routes`, `book`, `shapes`
"""
