"""Trouble on purpose: kills at every failpoint, faults at fal, a Postgres that dies, and a long soak.

Three books are compared after each run, and they must agree to the cent:

    the sandbox's     what fal accepted, rendered and billed      (`/_sandbox/requests`)
    the ledger        jobs, attempts, entries, windows            (the database, and `audit`)
    the callers'      what each was told, and when                (`callers.Told`)

`failpoints` is the one table of where a gateway is killed. `victim` is a gateway that kills itself at one of them,
`nursery` the process that forks one victim after another, `crash` a whole run (`make chaos`), `books` the
comparison. Production code knows nothing of all this.
"""
