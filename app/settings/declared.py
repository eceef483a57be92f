"""Every setting by its name, its default and what it must be; and what only several together can be."""

from decimal import Decimal
from typing import Annotated, Final, Literal, Self
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from app.settings.checks import (
    LOWERED,
    AdminKey,
    FalKey,
    HttpUrl,
    Origins,
    Place,
    PostgresUrl,
    Proxies,
    SecretKey,
    TimeZone,
    wheel_zone,
)

SANDBOX: Final = "sandbox"
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
FAL_URLS: Final = ("fal_queue_url", "fal_rest_url", "fal_api_url")

_SHORTEST_HALF: Final = 8  # anything shorter is a word that logs are full of


class Settings(BaseSettings):
    """Everything that can be set, by its name in lower case. `.env.example` explains each."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    fal_key: FalKey
    fal_admin_key: FalKey | None = None
    fal_queue_url: HttpUrl = "https://queue.fal.run"
    fal_rest_url: HttpUrl = "https://rest.fal.ai"
    fal_api_url: HttpUrl = "https://api.fal.ai/v1"
    fal_concurrency: int | None = Field(None, ge=1, le=10_000)
    database_url: PostgresUrl
    database_pool_size: int = Field(10, ge=3, le=500)
    admin_key: AdminKey | None = None
    secret_key: SecretKey | None = None
    public_url: HttpUrl | None = None
    timezone: TimeZone = "UTC"
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    forwarded_allow_ips: Proxies = "127.0.0.1"
    cors_origins: Annotated[Origins, NoDecode] = ()
    max_body_bytes: int = Field(15_000_000, ge=1_000)
    poll_seconds: float = Field(5, gt=0, le=300)
    start_seconds: int = Field(3600, ge=2)
    job_deadline_seconds: int = Field(3600, ge=1)
    unconfirmed_seconds: int = Field(600, ge=1)
    queue_seconds: int = Field(86400, ge=1)
    webhook_allow_private: bool = False
    output_store: Place | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_region: str | None = None
    aws_endpoint_url: HttpUrl | None = None
    breaker_usd_per_hour: Decimal | None = Field(None, gt=0, le=1_000_000, decimal_places=9)
    breaker_user_usd_per_hour: Decimal | None = Field(None, gt=0, le=1_000_000, decimal_places=9)
    payload_days: int = Field(30, ge=1, le=36_500)
    metrics_key: SecretStr | None = None
    log_level: Annotated[Literal["debug", "info", "warning", "error"], LOWERED] = "info"
    log_format: Annotated[Literal["text", "json"], LOWERED] = "text"

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
