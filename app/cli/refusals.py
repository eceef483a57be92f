"""What keeps a command from its work, as one sentence and an exit code."""

from typing import IO, Any

import click

from app.embedded import EmbeddedPostgresError
from app.settings import SettingsError


class Refusal(click.ClickException):
    """One sentence for whoever called the command. It never shows a secret. Exit code 1; 2 for a setting."""

    def show(self, file: IO[Any] | None = None) -> None:
        """On standard error, after our name."""
        click.echo(f"falgate: {self.format_message()}", file=file, err=True)


class _SettingsRefusal(Refusal):
    exit_code = 2


def refusal_of(error: Exception) -> click.ClickException | None:
    """The refusal that this error is; None for what should never happen."""
    match error:
        case click.ClickException():
            return error
        case SettingsError():
            return _SettingsRefusal(str(error))
        case EmbeddedPostgresError():
            return Refusal(str(error))
        case OSError() if error.filename:
            return Refusal(f"{error.filename}: {error.strerror or type(error).__name__}.")
        case _:
            return None
