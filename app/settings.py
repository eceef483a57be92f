"""Settings: read once from the environment and `.env`, checked together, never shown."""

import difflib
import os
import re
from collections.abc import Container, Mapping
from decimal import Decimal
from functools import cache
from importlib.resources import files
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from dotenv.parser import Binding, parse_stream
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

SANDBOX: Final = "sandbox"
_FOREIGN_PREFIXES: Final = ("POSTGRES_", "COMPOSE_")  # docker compose reads the same .env
_ADMIN_KEY_LENGTH: Final = 24
_SECRET_KEY_LENGTH: Final = 32
_FAL_KEY_LENGTH: Final = 1000  # what app.fal sends
_SHORTEST_HALF: Final = 8  # anything shorter is a word that logs are full of
_URL: Final = re.compile(r"[!-~]{1,2000}")
_HOST: Final = re.compile(r"[a-z0-9._:-]+")
_ADDRESS: Final = re.compile(r".*:.*|\d+\.\d+\.\d+\.\d+")
_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
SECRETS: Final = (
    "FAL_KEY",
    "FAL_ADMIN_KEY",
    "DATABASE_URL",
    "ADMIN_KEY",
    "SECRET_KEY",
    "METRICS_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*/?")
FAL_URLS: Final = ("fal_queue_url", "fal_rest_url", "fal_api_url")


class SettingsError(Exception):
    """One sentence for whoever runs the gateway. It never shows a value."""


def _http_url(value: str) -> str:
    """As strict as whatever calls these URLs, so that a wrong one is refused before anything starts."""
    if not _is_plain_url(value):
        message = "must be an http(s) URL without query or credentials"
        raise ValueError(message)
    return value.rstrip("/")


def _is_plain_url(value: str) -> bool:
    if not _URL.fullmatch(value) or any(mark in value for mark in "?#"):
        return False
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
        if _ADDRESS.fullmatch(host):
            ip_address(host)
    except ValueError:
        return False
    is_http = parts.scheme in {"http", "https"} and "@" not in parts.netloc
    return is_http and port != 0 and _HOST.fullmatch(host) is not None


HttpUrl = Annotated[str, AfterValidator(_http_url)]


def split_place(place: str) -> tuple[str, str]:
    """A bucket and a prefix, or '' and a folder. Raises ValueError: what OUTPUT_STORE must be."""
    if place.startswith("s3://"):
        parts = urlsplit(place)
        if not _BUCKET.fullmatch(parts.netloc) or not _PREFIX.fullmatch(parts.path) or "?" in place or "#" in place:
            raise ValueError("must name a bucket as s3://bucket or s3://bucket/prefix")
        return parts.netloc, parts.path.strip("/")
    if not place.startswith("/") or "\0" in place:
        raise ValueError("must be an absolute folder (/data/outputs) or a bucket (s3://bucket/prefix)")
    return "", place


@cache
def wheel_zone(name: str) -> ZoneInfo:
    """A time zone as the pinned tzdata wheel has it: `ZoneInfo(name)` would take this machine's own data first, and
    two replicas could cut their days differently.
    """  # noqa: D205  one sentence
    with (files("tzdata") / "zoneinfo" / name).open("rb") as data:
        return ZoneInfo.from_file(data, key=name)


class Settings(BaseSettings):
    """Everything that can be set, by its name in lower case. `.env.example` explains each."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    fal_key: SecretStr
    fal_admin_key: SecretStr | None = None
    fal_queue_url: HttpUrl = "https://queue.fal.run"
    fal_rest_url: HttpUrl = "https://rest.fal.ai"
    fal_api_url: HttpUrl = "https://api.fal.ai/v1"
    fal_concurrency: int | None = Field(None, ge=1, le=10_000)
    database_url: SecretStr
    database_pool_size: int = Field(10, ge=3, le=500)
    admin_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    public_url: HttpUrl | None = None
    timezone: str = "UTC"
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    forwarded_allow_ips: str = "127.0.0.1"
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    max_body_bytes: int = Field(15_000_000, ge=1_000)
    poll_seconds: float = Field(5, gt=0, le=300)
    start_seconds: int = Field(3600, ge=2)
    job_deadline_seconds: int = Field(3600, ge=1)
    unconfirmed_seconds: int = Field(600, ge=1)
    queue_seconds: int = Field(86400, ge=1)
    webhook_allow_private: bool = False
    output_store: str | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_region: str | None = None
    aws_endpoint_url: HttpUrl | None = None
    breaker_usd_per_hour: Decimal | None = Field(None, gt=0, le=1_000_000, decimal_places=9)
    breaker_user_usd_per_hour: Decimal | None = Field(None, gt=0, le=1_000_000, decimal_places=9)
    payload_days: int = Field(30, ge=1, le=36_500)
    metrics_key: SecretStr | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  pydantic-settings names its arguments
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load_settings` gathers the values itself, so that a `.env` with a typing mistake is refused."""
        return (init_settings,)

    @field_validator("timezone")
    @classmethod
    def _timezone_exists(cls, value: str) -> str:
        known = (files("tzdata") / "zones").read_text(encoding="ascii").split()
        if value not in known:
            near = difflib.get_close_matches(value, known, n=1)
            message = "must be an IANA time zone such as Europe/Berlin" + (
                f" (did you mean {near[0]}?)" if near else ""
            )
            raise ValueError(message)
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """As browsers send them: anything else would never match."""
        if not all(origin == "*" or _ORIGIN.fullmatch(origin) for origin in value):
            message = "must be origins in lower case without a path (such as https://studio.example.com), or *"
            raise ValueError(message)
        return value

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _are_proxies(cls, value: str) -> str:
        """Anything else would be taken for the name of a proxy, and never match."""
        if value.strip() == "*":
            return "*"
        try:
            for part in value.split(","):
                ip_network(part.strip())
        except ValueError:
            message = "must be addresses and networks (such as 172.16.0.0/12) with commas between, or * alone"
            raise ValueError(message) from None
        return value

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("fal_key")
    @classmethod
    def _fal_key_given(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if not 0 < len(text) <= _FAL_KEY_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
            message = 'must be the key from fal\'s dashboard, or the word "sandbox"'
            raise ValueError(message)
        return value

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value().partition("://")[0].split("+")[0] not in {"postgres", "postgresql"}:
            message = "must begin with postgresql:// or postgres://"
            raise ValueError(message)
        return value

    @field_validator("admin_key")
    @classmethod
    def _admin_key_is_long(cls, value: SecretStr | None) -> SecretStr | None:
        text = value.get_secret_value() if value else ""
        if value and (
            len(text) < _ADMIN_KEY_LENGTH or text.startswith("fg_") or not text.isascii() or not text.isprintable()
        ):
            message = "must have at least 24 printable ASCII characters and not begin with fg_"
            raise ValueError(message)
        return value

    @field_validator("fal_admin_key")
    @classmethod
    def _fal_admin_key_can_be_sent(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else cls._fal_key_given(value)

    @field_validator("secret_key")
    @classmethod
    def _secret_key_is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value and len(value.get_secret_value()) < _SECRET_KEY_LENGTH:
            message = "must have at least 32 characters, such as `openssl rand -hex 32` prints"
            raise ValueError(message)
        return value

    @field_validator("output_store")
    @classmethod
    def _is_place(cls, value: str | None) -> str | None:
        if value is not None:
            split_place(value)
        return value

    @model_validator(mode="after")
    def _keys_of_the_bucket_go_together(self) -> Self:
        if (self.aws_access_key_id is None) != (self.aws_secret_access_key is None):
            message = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together: set both, or neither"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _deadlines_fit(self) -> Self:
        if self.poll_seconds > self.job_deadline_seconds:
            message = "POLL_SECONDS must not be longer than JOB_DEADLINE_SECONDS"
            raise ValueError(message)
        return self

    @property
    def is_sandbox(self) -> bool:
        """Whether the built-in fal is meant."""
        return self.fal_key.get_secret_value() == SANDBOX

    @property
    def zone(self) -> ZoneInfo:
        """TIMEZONE, in which days, weeks and months begin."""
        return wheel_zone(self.timezone)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every value that no log may show."""
        values = (
            self.fal_key,
            self.fal_admin_key,
            self.database_url,
            self.admin_key,
            self.secret_key,
            self.metrics_key,
            self.aws_secret_access_key,
            self.aws_session_token,
        )
        texts = [value.get_secret_value() for value in values if value]
        halves = [text.partition(":")[2] for text in texts[: 2 if self.fal_admin_key else 1]]  # fal's are id:secret
        password = urlsplit(self.database_url.get_secret_value()).password or ""
        parts = [half for half in halves if len(half) >= _SHORTEST_HALF]
        return tuple(text for text in [*texts, *parts, password, unquote(password)] if text and text != SANDBOX)


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
