"""What we serve: each endpoint of fal with its typed input, what it may cost, and an example.

To serve another endpoint add one file to `app/catalogue/endpoints/`, with `ENDPOINT = Endpoint(…)` in it. Nothing
else changes: its route, its schema in `/docs` and its first price rows (written by `falgate migrate`) follow.

The file names where its facts are from: a field that nobody could verify is left out, and a combination whose price is
not known has no price row, so it is refused. The tests then ask for a line in their table of prices and in the
README's, and for the model in the sandbox.
"""
