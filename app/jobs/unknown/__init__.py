"""Jobs that fal may or may not have: what its request list says, and what counts as evidence."""
