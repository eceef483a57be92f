"""fal's own protocol at the gateway."""
