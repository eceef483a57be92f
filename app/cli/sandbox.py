"""`falgate sandbox`: fal in a box, as a process of its own."""

import errno

import click

from app.cli.refusals import Refusal
from app.sandbox import serve


@click.command
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.", show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--speed", type=float, default=1.0, show_default=True, help="Simulated seconds in each real one.")
@click.option("--queue-seconds", type=float, default=1.0, show_default=True, help="Wait before rendering, at speed 1.")
@click.option("--render-seconds", type=float, default=3.0, show_default=True, help="Rendering, at speed 1.")
@click.option("--concurrency", type=click.IntRange(min=1), help="How many jobs render at once (all).")
@click.option("--public-url", default="", help="Put before the paths in answers (the Host that was called).")
@click.option("--exit-with", type=int, metavar="PID", help="End when PID, which started it, ends.")
def command(
    *,
    port: int,
    host: str,
    speed: float,
    queue_seconds: float,
    render_seconds: float,
    concurrency: int | None,
    public_url: str,
    exit_with: int | None,
) -> None:
    """Serve a pretended fal: its queue, its files, no dollars. It prints its address when it is ready."""
    try:
        serve(
            port,
            host,
            speed=speed,
            queue_seconds=queue_seconds,
            render_seconds=render_seconds,
            concurrency=concurrency,
            public_url=public_url,
            exit_with=exit_with,
        )
    except OSError as error:
        why = "the port is taken" if error.errno == errno.EADDRINUSE else error.strerror
        raise Refusal(f"The sandbox cannot listen on {host}:{port}: {why}.") from None
