"""Settings: one field here and one line in `.env.local.example` each. A bad value stops the start and is named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

LOCAL_ORIGINS = tuple(f"http://localhost:{port}" for port in (3000, 3001, 5173, 8000, 8080))
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")
# Everybody can read it here, so it protects nothing: production refuses it.
DEVELOPMENT_KEY = "development-only-0123456789abcdef0123456789abcdef"


class ConfigError(Exception):
    """The settings cannot be used. The message names the variable."""


class Settings(BaseSettings):
    """Read from the environment, then from `.env.local`, else the defaults. Durations are in seconds."""

    model_config = SettingsConfigDict(
        env_file=".env.local", env_file_encoding="utf-8", env_ignore_empty=True, extra="forbid", frozen=True
    )

    environment: Literal["development", "production"] = "development"
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8080, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    sqlite_path: Path = Path(".data/zoochat.sqlite3")
    provider: Literal["offline"] = "offline"
    default_animal: str = Field("lion_001", pattern=r"^[a-z][a-z0-9_]{0,63}$")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = LOCAL_ORIGINS
    flask_threads: int = Field(8, ge=1, le=200)
    validate_responses: bool = False
    max_body_bytes: int = Field(262_144, ge=1024, le=16_777_216)
    request_timeout_s: float = Field(10, gt=0, le=300, validation_alias="REQUEST_TIMEOUT")
    turn_deadline_s: float = Field(120, gt=0, le=300, validation_alias="TURN_DEADLINE")
    stream_idle_timeout_s: float = Field(30, gt=0, le=300, validation_alias="STREAM_IDLE_TIMEOUT")
    heartbeat_s: float = Field(15, gt=0, le=15, validation_alias="HEARTBEAT")
    orphan_grace_s: float = Field(30, ge=0, le=3600, validation_alias="ORPHAN_GRACE")
    send_timeout_s: float = Field(30, gt=0, le=300, validation_alias="SEND_TIMEOUT")
    lease_s: float = Field(30, ge=0.3, le=300, validation_alias="LEASE")
    drain_timeout_s: float = Field(20, ge=0, le=300, validation_alias="DRAIN_TIMEOUT")
    session_ttl_s: int = Field(86_400, ge=1, validation_alias="SESSION_TTL")
    idempotency_ttl_s: int = Field(86_400, ge=1, validation_alias="IDEMPOTENCY_TTL")
    replay_window_s: float = Field(600, ge=0, validation_alias="REPLAY_WINDOW")
    replay_max_turns: int = Field(10_000, ge=1)
    offline_words_per_s: float = Field(12, ge=0, le=1000)
    offline_seed: int = 0
    signing_key: str = Field(DEVELOPMENT_KEY, min_length=32, repr=False)
    access_token_ttl_s: int = Field(900, ge=1, le=86_400, validation_alias="ACCESS_TOKEN_TTL")
    refresh_token_ttl_s: int = Field(2_592_000, ge=1, le=31_536_000, validation_alias="REFRESH_TOKEN_TTL")
    demo_users: Literal["on", "off"] = Field("on", validate_default=False)
    simulations: Literal["on", "off"] = "on"
    credits_per_token: int = Field(1, ge=1, le=1_000_000)

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def has_demo_users(self) -> bool:
        """Only in development: their passwords are public knowledge."""
        return self.demo_users == "on" and self.environment == "development"

    @property
    def has_simulations(self) -> bool:
        """Streams that go wrong on purpose: in production only where somebody says so."""
        is_wanted = self.environment == "development" or "simulations" in self.model_fields_set
        return self.simulations == "on" and is_wanted

    @field_validator("signing_key")
    @classmethod
    def _own_key(cls, value: str, info: ValidationInfo) -> str:
        if value == DEVELOPMENT_KEY and info.data.get("environment") == "production":
            raise ValueError("production needs a secret of its own, such as `openssl rand -base64 48` prints")
        return value

    @field_validator("demo_users")
    @classmethod
    def _no_demo_in_production(cls, value: str, info: ValidationInfo) -> str:
        # Only for a value that was set (`validate_default`): in production the default is off, without a word.
        if value == "on" and info.data.get("environment") == "production":
            raise ValueError("production must not have accounts whose passwords everybody knows")
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        origins = [part.strip().rstrip("/") for part in value.split(",")] if isinstance(value, str) else value
        for origin in origins if isinstance(origins, list) else []:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin such as https://zoo.example; * is never allowed")
        return origins


def load_settings(**overrides: object) -> Settings:
    """The settings of this process. `ConfigError` names each bad variable and says what is wrong with it."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # the model checks them
    except ValidationError as error:
        raise ConfigError("\n".join(f"{_variable(part['loc'])}: {part['msg']}" for part in error.errors())) from None


def _variable(location: tuple[int | str, ...]) -> str:
    return str(location[0]).upper() if location else "settings"
