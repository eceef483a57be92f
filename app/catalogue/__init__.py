"""What we serve: each endpoint of fal with its typed input, what it may cost, and an example.

To serve another endpoint add one file to `app/catalogue/endpoints/`, with `ENDPOINT = Endpoint(…)` in it. Nothing
else changes: its route, its schema in `/docs` and its first price rows (written by `falgate migrate`) follow.
"""
