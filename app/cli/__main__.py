"""`python -m app.cli`: the command where the package is not installed, as in the Docker image."""

from app.cli import main

main(prog_name="falgate")
