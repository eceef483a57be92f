"""`python -m app.cli`: the command where the package is not installed, as in the Docker image."""

from app.cli import main

if __name__ == "__main__":
    main(prog_name="falgate")
