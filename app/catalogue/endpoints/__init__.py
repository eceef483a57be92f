"""One file an endpoint; each holds `ENDPOINT`."""
