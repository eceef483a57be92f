"""The videos: where they lie, how they are read through the gateway, and the archive that keeps them.

- out: `serving` opens one, of `ranges` a part, under `types` that nothing runs; `response` sends it
- kept: `archive` copies them to OUTPUT_STORE (`app.output_store`) and forgets them; its rows: `rows`
"""
