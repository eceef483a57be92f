"""The files at both ends of a job: images that callers put in, videos that come out, and the archive that keeps these.

- in: `file_routes` takes an image, `uploads` reads it and looks at it, `files` puts it into fal's storage for its owner
  (`owners`)
- out: `serving` opens one, of `ranges` a part, under `types` that nothing runs; `response` sends it
- kept: `archive` copies them to OUTPUT_STORE (`app.output_store`) and forgets them; its rows: `rows`
"""
