"""A submit: read, quoted, guarded and stored with its hold, together with those that arrive at the same time."""
