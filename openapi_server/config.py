"""Settings. Each is a field here and a line in `.env.local.example`; an invalid value stops the start."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

LOCAL_ORIGINS = tuple(f"http://localhost:{port}" for port in (3000, 3001, 5173, 8000, 8080))
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")
_URL = r"^https?://[^\s/@?#]+(/[^\s?#]*)?$"
_KEY = r"^[!-~]*$"
OPENAI_URL = "https://api.openai.com/v1"
# The settings that a provider requires, with the provider's name.
_REQUIRED_BY_PROVIDER = {
    "openai_api_key": "openai",
    "openai_model": "openai",
    "anthropic_api_key": "anthropic",
    "anthropic_model": "anthropic",
    "aws_region": "bedrock",
    "bedrock_model": "bedrock",
}
# It is public, so production refuses it.
DEVELOPMENT_KEY = "development-only-0123456789abcdef0123456789abcdef"


class ConfigError(Exception):
    """A setting is invalid. The message names the environment variable."""


class Settings(BaseSettings):
    """Read from the environment, then from `.env.local`; else the defaults. `*_s` are in seconds."""

    model_config = SettingsConfigDict(
        env_file=".env.local", env_file_encoding="utf-8", env_ignore_empty=True, extra="forbid", frozen=True
    )

    environment: Literal["development", "production"] = "development"
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8080, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    sqlite_path: Path = Path(".data/zoochat.sqlite3")
    provider: Literal["offline", "openai", "anthropic", "bedrock"] = "offline"
    moderation_url: str = Field("", pattern=rf"^$|{_URL}")
    moderation_api_key: str = Field("", pattern=_KEY, repr=False)
    moderation_model: str = "omni-moderation-latest"
    moderation_timeout_s: float = Field(2, gt=0, le=30, validation_alias="MODERATION_TIMEOUT")
    openai_base_url: str = Field(OPENAI_URL, pattern=_URL)
    openai_api_key: str = Field("", pattern=_KEY, repr=False, validate_default=True)
    openai_model: str = Field("", pattern=_KEY, validate_default=True)
    anthropic_base_url: str = Field("https://api.anthropic.com", pattern=_URL)
    anthropic_api_key: str = Field("", pattern=_KEY, repr=False, validate_default=True)
    anthropic_model: str = Field("", pattern=_KEY, validate_default=True)
    aws_region: str = Field("", pattern=r"^[a-z0-9-]*$", validate_default=True)
    bedrock_endpoint: str = Field("", pattern=f"{_URL}|^$")
    bedrock_model: str = Field("", pattern=_KEY, validate_default=True)
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int = Field(512, ge=16, le=8192)
    semantic: Literal["auto", "on", "off"] = "auto"
    default_animal: str = Field("lion_001", pattern=r"^[a-z][a-z0-9_]{0,63}$")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = LOCAL_ORIGINS
    flask_threads: int = Field(8, ge=1, le=200)
    validate_responses: bool = False
    max_body_bytes: int = Field(262_144, ge=1024, le=16_777_216)
    request_timeout_s: float = Field(10, gt=0, le=300, validation_alias="REQUEST_TIMEOUT")
    turn_deadline_s: float = Field(120, gt=0, le=300, validation_alias="TURN_DEADLINE")
    stream_idle_timeout_s: float = Field(30, gt=0, le=300, validation_alias="STREAM_IDLE_TIMEOUT")
    connect_timeout_s: float = Field(3, gt=0, le=60, validation_alias="CONNECT_TIMEOUT")
    first_token_timeout_s: float = Field(8, gt=0, le=120, validation_alias="FIRST_TOKEN_TIMEOUT", validate_default=True)
    provider_retries: int = Field(2, ge=0, le=10)
    breaker_failures: int = Field(5, ge=1, le=1000)
    breaker_pause_s: float = Field(30, gt=0, le=3600, validation_alias="BREAKER_PAUSE")
    heartbeat_s: float = Field(15, gt=0, le=15, validation_alias="HEARTBEAT")
    orphan_grace_s: float = Field(30, ge=0, le=3600, validation_alias="ORPHAN_GRACE")
    send_timeout_s: float = Field(30, gt=0, le=300, validation_alias="SEND_TIMEOUT")
    lease_s: float = Field(30, ge=0.3, le=300, validation_alias="LEASE")
    drain_timeout_s: float = Field(20, ge=0, le=300, validation_alias="DRAIN_TIMEOUT")
    session_ttl_s: int = Field(86_400, ge=1, validation_alias="SESSION_TTL")
    retention_days: int = Field(0, ge=0, le=3650)
    audit_days: int = Field(365, ge=1, le=3650)
    idempotency_ttl_s: int = Field(86_400, ge=1, validation_alias="IDEMPOTENCY_TTL")
    replay_window_s: float = Field(600, ge=0, validation_alias="REPLAY_WINDOW")
    replay_max_turns: int = Field(10_000, ge=1)
    offline_words_per_s: float = Field(12, ge=0, le=1000)
    offline_seed: int = 0
    signing_key: str = Field(DEVELOPMENT_KEY, min_length=32, repr=False)
    access_token_ttl_s: int = Field(900, ge=1, le=86_400, validation_alias="ACCESS_TOKEN_TTL")
    refresh_token_ttl_s: int = Field(2_592_000, ge=1, le=31_536_000, validation_alias="REFRESH_TOKEN_TTL")
    demo_users: Literal["on", "off"] = Field("on", validate_default=False)
    session_binding: Literal["id", "caller"] = "id"
    simulations: Literal["on", "off"] = "on"
    credits_per_token: int = Field(1, ge=1, le=1_000_000)

    @field_validator("log_level", mode="before")
    @classmethod
    def _uppercase_log_level(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def retention(self) -> timedelta | None:
        """How long messages and replies are kept; None: as long as their session."""
        return timedelta(days=self.retention_days) if self.retention_days else None

    @property
    def audit_retention(self) -> timedelta:
        return timedelta(days=self.audit_days)

    @property
    def has_demo_users(self) -> bool:
        """Only in development, because their passwords are public."""
        return self.demo_users == "on" and self.environment == "development"

    @property
    def binds_sessions_to_callers(self) -> bool:
        """Whether a visitor's session needs the cookie, device or token that began it: in production, unless set."""
        is_default = "session_binding" not in self.model_fields_set
        return self.session_binding == "caller" or (is_default and self.environment == "production")

    @property
    def has_simulations(self) -> bool:
        """Whether clients may request streams that fail on purpose; in production only if the variable is set."""
        is_enabled = self.environment == "development" or "simulations" in self.model_fields_set
        return self.simulations == "on" and is_enabled

    @field_validator("signing_key")
    @classmethod
    def _check_signing_key(cls, value: str, info: ValidationInfo) -> str:
        if value == DEVELOPMENT_KEY and info.data.get("environment") == "production":
            raise ValueError("must be a secret of your own in production, such as `openssl rand -base64 48` prints")
        return value

    @field_validator(*_REQUIRED_BY_PROVIDER)
    @classmethod
    def _check_required_by_provider(cls, value: str, info: ValidationInfo) -> str:
        provider = _REQUIRED_BY_PROVIDER[info.field_name or ""]
        # A compatible server at another address may need no key.
        may_be_empty = info.field_name == "openai_api_key" and info.data.get("openai_base_url") != OPENAI_URL
        if not value and info.data.get("provider") == provider and not may_be_empty:
            raise ValueError(f"is required with PROVIDER={provider}")
        return value

    @field_validator("first_token_timeout_s")
    @classmethod
    def _check_first_token_timeout(cls, value: float, info: ValidationInfo) -> float:
        idle_s = info.data.get("stream_idle_timeout_s", value + 1)
        if value >= idle_s and info.data.get("provider", "offline") != "offline":
            raise ValueError("must be less than STREAM_IDLE_TIMEOUT, or turns end before the fallback can answer")
        return value

    @field_validator("demo_users")
    @classmethod
    def _check_demo_users(cls, value: str, info: ValidationInfo) -> str:
        # Not called for the default (`validate_default`), which counts as off in production.
        if value == "on" and info.data.get("environment") == "production":
            raise ValueError("must be off in production: the passwords of the demo accounts are public")
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _parse_origins(cls, value: object) -> object:
        origins = [part.strip().rstrip("/") for part in value.split(",")] if isinstance(value, str) else value
        for origin in origins if isinstance(origins, list) else []:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin such as https://zoo.example; * is never allowed")
        return origins


def load_settings(**overrides: object) -> Settings:
    """The settings of this process. `ConfigError` names each invalid variable and what is wrong with it."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # the model checks them
    except ValidationError as error:
        raise ConfigError("\n".join(f"{_get_variable_name(part)}: {part['msg']}" for part in error.errors())) from None


def _get_variable_name(part: ErrorDetails) -> str:
    """The environment variable of a validation error. pydantic names the field when a default is invalid."""
    name = str(part["loc"][0]) if part["loc"] else "settings"
    field = None if part["type"] == "extra_forbidden" else Settings.model_fields.get(name)
    return str(field.validation_alias if field and field.validation_alias else name).upper()
