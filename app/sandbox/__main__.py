"""`python -m app.sandbox`: the sandbox without the rest of falgate."""

import argparse

from app.sandbox.server import serve


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(prog="python -m app.sandbox", description="fal in a box")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds in each real one")
    parser.add_argument("--queue-seconds", type=float, default=1.0, help="wait before rendering, at speed 1")
    parser.add_argument("--render-seconds", type=float, default=3.0, help="rendering, at speed 1")
    parser.add_argument("--concurrency", type=int, help="how many jobs render at once (all)")
    parser.add_argument("--public-url", default="", help="put before the paths in answers (the Host called)")
    parser.add_argument("--exit-with", type=int, metavar="PID", help="end when PID, which started it, ends")
    serve(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
