"""The videos that come out of jobs, and the archive that keeps them.

- out: `serving` opens one, of `ranges` a part, under `types` that nothing runs; `response` sends it
- kept: `archive` copies them to OUTPUT_STORE (`app.output_store`) and forgets them; its rows: `rows`
"""
