"""The command line, one file a command: `falgate serve`, `migrate`, `demo` and all others of `_COMMANDS`.

A command is imported when it is called, so that `serve` carries nothing of the others. Whatever keeps a command
from its work is one sentence on standard error; no value of a secret is ever in it.
"""

from importlib import import_module
from typing import Any, Final

import click

from app import __version__

_COMMANDS: Final = (
    "serve",
    "migrate",
    "demo",
    "sandbox",
    "keys",
    "report",
    "prices",
    "reconcile",
    "close",
    "audit",
    "recover",
)


class _Commands(click.Group):
    """The commands by their file names; each file calls its command `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which somebody meets them."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import this one alone."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"app.cli.{cmd_name}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what its words cover ends in a sentence, the rest is a fault of ours."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            refusal = import_module("app.cli.refusals").refusal_of(error)
            if refusal is None:
                raise
            raise refusal from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="falgate")
def main() -> None:
    """A self-hosted gateway in front of fal's queue: keys, quotas and a ledger for a team's videos."""
