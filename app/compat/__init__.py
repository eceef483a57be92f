"""fal's own protocol under /fal/, so that a program written for fal changes a host and a key, and nothing else."""
