"""The jobs' routes: what is asked over HTTP, and nothing else."""
