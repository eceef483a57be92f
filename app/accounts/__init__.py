"""Accounts: teams, users and keys; who is calling; and the log of what admins changed.

- A secret is shown once and stored as SHA-256 alone; its form carries a checksum, so a typing mistake costs
  no database call.
- A key keeps its id when it is rotated, so its quotas and jobs stay its own; only its secrets change.
- Each request looks its caller up afresh: who is revoked, disabled or demoted is refused at once, everywhere.
  What makes a key live is written down once, in `callers.sql_live`.
- Nothing is deleted: users are disabled, teams archived, keys revoked. What is not yours to see is not there.
- A lead may touch no key of a user whose role is above its own: a key is its user's whole power.
- Each change leaves one row in the audit log, in the same transaction, with no secret and no hash in it.
"""
