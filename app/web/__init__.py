"""What stands around every request, and the pages that belong to no domain.

Where things are, from the socket inwards
- `connection` (one client's: how large and how slow a request's head may be) → `edge` (its id, its limits, an answer
  whatever goes wrong), which asks `bodies` (how large and how slow), `patience` (how long it may all take), `failures`
  (too many wrong keys from one address) and `headers` (what every answer says to a browser)
- pages: `docs` (/docs, and a page for every problem), `health`, `metrics`; `prometheus-rules.yml` are the alerts, each
  with its section in docs/operating.md
"""
