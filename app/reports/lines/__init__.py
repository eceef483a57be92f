"""CSVs with a line for each job or charge, however many: `jobs.csv`, `focus.csv`.

Each is one statement (`jobs`, `focus`) whose cells Postgres writes (`cells`), read and sent a page at a time (`pages`).
Over HTTP: `routes`.
"""
