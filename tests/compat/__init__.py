"""fal's own protocol, under `/fal/`."""
