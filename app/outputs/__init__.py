"""The videos: where they lie, how they are read through the gateway, and the archive that keeps them."""
