"""Reading settings from the environment and `.env`."""

import difflib
import os
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, Final

from dotenv.parser import Binding, parse_stream
from pydantic import ValidationError

from app.settings.declared import FAL_URLS, SANDBOX, SECRETS, Settings

_FOREIGN_PREFIXES: Final = ("POSTGRES_", "COMPOSE_")  # docker compose reads the same .env
_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")


class SettingsError(Exception):
    """One sentence for whoever runs the gateway. It never shows a value."""


def load_settings(environ: Mapping[str, str], *, env_file: Path | None = Path(".env"), **fixed: str) -> Settings:
    """Settings from the environment, then `.env`, with `fixed` (ours, such as the embedded database) above both.

    Raises SettingsError: one sentence, all that is wrong in it, no value.
    """
    written = read_env_file(env_file)
    values = _values_of(environ)
    values |= _values_of(written, but=values)
    _refuse_sandbox_with_urls(values, fixed)
    try:
        return Settings(**{**values, **fixed})  # type: ignore[arg-type]  # pydantic parses the strings
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None


def _values_of(source: Mapping[str, str], *, but: Container[str] = ()) -> dict[str, str]:
    """What one source sets, its files read, apart from what is decided already.

    An empty value is an unset one: that is how compose hands on what nobody set.
    """
    wanted = [name for name in Settings.model_fields if name not in but]
    values = {name: source[name.upper()] for name in wanted if source.get(name.upper())}
    for name in SECRETS:
        if name.lower() in wanted and (path := source.get(f"{name}_FILE")):
            if name.lower() in values:
                raise SettingsError(f"{name} and {name}_FILE are both set: leave one of them out.")
            values[name.lower()] = _read_secret(name, path)
    return values


def read_env_file(path: Path | None) -> dict[str, str]:
    """What `.env` sets, if it is there. Raises SettingsError for what falgate does not know or cannot read."""
    if path is None or not path.is_file():
        return {}
    written = _parse_env_file(path)
    known = [name.upper() for name in Settings.model_fields] + [f"{name}_FILE" for name in SECRETS]
    for name in written:
        if name not in known and not name.startswith(_FOREIGN_PREFIXES):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise SettingsError(f"{path} sets {name}, which falgate does not know; the nearest name is {near[0]}.")
    return written


def _parse_env_file(path: Path) -> dict[str, str]:
    """Name and value of each line. Raises SettingsError for a line that is neither, which dotenv would pass over.

    What stands where a name should be is not shown unless it looks like one: it may be a secret.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            bindings = list(parse_stream(lines))
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text.") from None
    for binding in bindings:
        if binding.error or (binding.key and binding.value is None):
            raise SettingsError(f"{path}, line {_line_of(binding)}: this is not NAME=value.")
        if binding.key and not _NAME.fullmatch(binding.key):
            raise SettingsError(f"{path}, line {_line_of(binding)}: a name has capitals, digits and _ only.")
    return {binding.key: binding.value or "" for binding in bindings if binding.key}


def _line_of(binding: Binding) -> int:
    """dotenv counts the empty lines before it as the binding's own."""
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _read_secret(name: str, path: str) -> str:
    """An empty file is refused: an empty ADMIN_KEY would be one that everybody has."""
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):  # bytes that are not UTF-8, a path that cannot be one
        raise SettingsError(f"{name}_FILE names a file that cannot be read.") from None
    if not value:
        raise SettingsError(f"{name}_FILE names a file that is empty.")
    return value


def _refuse_sandbox_with_urls(values: Mapping[str, str], fixed: Mapping[str, str]) -> None:
    given = [name.upper() for name in FAL_URLS if name in values and name not in fixed]
    if values.get("fal_key") == SANDBOX and given:
        raise SettingsError(
            f"FAL_KEY=sandbox means the built-in fal: remove {' and '.join(given)}, "
            "or set FAL_KEY to the key of the fal that is meant."
        )


def _sentence(error: ValidationError) -> str:
    def of(fault: Any) -> str:
        name = ".".join(str(part) for part in fault["loc"]).upper()
        if fault["type"] == "missing":
            return f"{name} is not set{_hint(name)}"
        words = fault["msg"].removeprefix("Value error, ")
        return f"{name} {words[:1].lower() + words[1:]}" if name else str(words)

    return "; ".join(of(fault) for fault in error.errors(include_input=False, include_url=False)) + "."


def _hint(name: str) -> str:
    return {
        "FAL_KEY": ' (put the key from fal\'s dashboard there, or the word "sandbox")',
        "DATABASE_URL": " (postgresql://user:password@host/database, or give the command --embedded)",
    }.get(name, "")


def from_environment(*, env_file: Path | None = Path(".env"), **fixed: str) -> Settings:
    """`load_settings` on this process's own environment."""
    return load_settings(os.environ, env_file=env_file, **fixed)
