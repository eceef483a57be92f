"""fal's own protocol under /fal/, so that a program written for fal changes a host and a key, and nothing else.

- `paths` says what a path asks for, `routes` who answers it: `submit`, `run` (fal.run), or `about` for one job, whose
  `status` and `ends` are read from its row
- `repeats`: a submit that comes again because its answer was lost; `waits`: a direct call whose caller has gone;
  `line`: is its caller still there?
- `errors`: every refusal in fal's shapes, with codes that no client repeats
- `proxy` and `uploads`: for `@fal-ai/client` with a `proxyUrl`
- `schema`: what OpenAPI says of it
"""
