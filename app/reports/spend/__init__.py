"""What was charged and is held, by any groups: `GET /v1/reports/spend`.

`groups` and `report` read what is asked for; `parts` says which of it the sums by day and month tell, and which only
entries do; `sql` is the one statement; `written` writes its lines as JSON or CSV. Over HTTP: `routes`, `shapes`.
"""
