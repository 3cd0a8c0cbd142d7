"""Settings. Each is a field here and a line in `.env.local.example`; an invalid value stops the start."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from socket import inet_aton
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from openapi_server.key_strength import MAKE_KEY, MIN_KEY_BITS, estimate_key_bits
from openapi_server.models.credits import TokenPrice
from openapi_server.settings_file import (
    SettingsFile,
    SettingsFileError,
    is_in_environment,
    read_settings_file,
    suggest_name,
)

SETTINGS_PATH = Path(".env.local")

LOCAL_ORIGINS = tuple(f"http://localhost:{port}" for port in (3000, 3001, 5173, 8000, 8080))
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
# Names of this machine, by themselves or at the end of others, and public names that lead to it.
_LOCAL_NAMES = (
    "localhost", "localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "local", "internal",
    "home.arpa", "localtest.me", "lvh.me", "vcap.me", "lacolhost.com", "nip.io", "sslip.io", "xip.io",
    "traefik.me", "host.docker.internal",
)  # fmt: skip
_EMBEDDING_NETWORKS = (IPv6Network("::/96"), IPv6Network("64:ff9b::/96"))
_URL = r"^https?://[^\s/@?#]+(/[^\s?#]*)?$"
_KEY = r"^[!-~]*$"
# What values of a pattern are, for the sentence "must be ...".
_URL_FORM = "a URL such as https://host.example/path, without a user name, a query or a fragment"
_KEY_FORM = "written in printable ASCII characters without spaces"
_TABLE_NAME = r"^[A-Za-z0-9_.-]{3,255}$"
_TABLE_FORM = "3 to 255 letters, digits, dots, hyphens and underscores"
# Of the tables, where AWS_REGION names none.
DEFAULT_REGION = "us-west-2"
OPENAI_URL = "https://api.openai.com/v1"
# Azure's own addresses. The API's version stands in the query, as Azure shows the address.
_AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_API_VERSION = re.compile(r"api-version=([A-Za-z0-9.-]{1,40})")
# The settings that a provider requires, with the provider's name.
_REQUIRED_BY_PROVIDER = {
    "openai_api_key": "openai",
    "openai_model": "openai",
    "anthropic_api_key": "anthropic",
    "anthropic_model": "anthropic",
    "aws_region": "bedrock",
    "bedrock_model": "bedrock",
}
_STORAGE_URL = re.compile(
    r"memory://|rediss?://(?:[^\s/@?#]{0,200}@)?[A-Za-z0-9.-]{1,253}:([0-9]{1,5})(?:/[0-9]{1,3})?"
)
# The limits of one caller in production: turns and reads in a minute, and streams open at once.
PRODUCTION_TURNS, PRODUCTION_STREAMS, PRODUCTION_READS = 120, 40, 1200
# It is public, so production refuses it.
DEVELOPMENT_KEY = "development-only-0123456789abcdef0123456789abcdef"


# The number of proxies in front of the server, or their networks.
TrustedProxies = int | tuple[IPv4Network | IPv6Network, ...]
MAX_PROXIES = 10
# Variables that are no settings, with what to use.
_REPLACED = {
    "FLASK_THREADS": "is now called REQUESTS_PER_ROUND, with the same values: rename it",
    "FORWARDED_ALLOW_IPS": "is uvicorn's, and this server does not read it: name your proxies in TRUSTED_PROXIES",
}
# Settings of earlier versions. In the environment, where other programs have variables too, only these are refused.
_RENAMED = ("FLASK_THREADS",)


class ConfigError(Exception):
    """A setting is invalid. The message names the environment variable."""


@dataclass(frozen=True, slots=True)
class DynamoLocation:
    """Where the tables of DynamoDB are, and what they are called. `endpoint` None: AWS itself."""

    region: str
    endpoint: str | None
    sessions: str
    turns: str
    state: str


class Settings(BaseSettings):
    """Read from the environment, then from `.env.local`; else the defaults. `*_s` are in seconds."""

    model_config = SettingsConfigDict(
        env_file=SETTINGS_PATH, env_file_encoding="utf-8-sig", env_ignore_empty=True, extra="forbid", frozen=True
    )

    environment: Literal["development", "production"] = "development"
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8080, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "console", "logfmt", "json"] = "auto"
    metrics: Literal["off", "admin", "port", "both"] = "admin"
    metrics_host: str = Field("127.0.0.1", min_length=1)
    metrics_port: int = Field(9464, ge=0, le=65535)
    otel_exporter_otlp_endpoint: str = Field("", pattern=rf"^$|{_URL}", description=_URL_FORM)
    store: Literal["sqlite", "dynamodb"] = "sqlite"
    sqlite_path: Path = Path(".data/zoochat.sqlite3")
    dynamodb_endpoint: str = Field("", pattern=f"{_URL}|^$", description=_URL_FORM)
    conversation_session_table_name: str = Field(
        "quest-dev-conversation-sessions", pattern=_TABLE_NAME, description=_TABLE_FORM
    )
    conversation_dynamo_table_name: str = Field("quest-dev-conversations", pattern=_TABLE_NAME, description=_TABLE_FORM)
    conversation_state_table_name: str = Field(
        "quest-dev-conversation-state", pattern=_TABLE_NAME, description=_TABLE_FORM
    )
    provider: Literal["offline", "openai", "anthropic", "bedrock"] = "offline"
    moderation_url: str = Field("", pattern=rf"^$|{_URL}", description=_URL_FORM)
    moderation_api_key: str = Field("", pattern=_KEY, description=_KEY_FORM, repr=False)
    moderation_model: str = "omni-moderation-latest"
    moderation_timeout_s: float = Field(2, gt=0, le=30, validation_alias="MODERATION_TIMEOUT")
    openai_base_url: str = OPENAI_URL
    openai_api_key: str = Field("", pattern=_KEY, description=_KEY_FORM, repr=False, validate_default=True)
    openai_model: str = Field("", pattern=_KEY, description=_KEY_FORM, validate_default=True)
    anthropic_base_url: str = Field("https://api.anthropic.com", pattern=_URL, description=_URL_FORM)
    anthropic_api_key: str = Field("", pattern=_KEY, description=_KEY_FORM, repr=False, validate_default=True)
    anthropic_model: str = Field("", pattern=_KEY, description=_KEY_FORM, validate_default=True)
    aws_region: str = Field(
        "", pattern=r"^[a-z0-9-]*$", description="a region such as eu-west-1", validate_default=True
    )
    bedrock_endpoint: str = Field("", pattern=f"{_URL}|^$", description=_URL_FORM)
    bedrock_model: str = Field("", pattern=_KEY, description=_KEY_FORM, validate_default=True)
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int = Field(512, ge=16, le=8192)
    semantic: Literal["auto", "on", "off"] = "auto"
    default_animal: str = Field("lion_001", pattern=r"^[a-z][a-z0-9_]{0,63}$", description="an id such as lion_001")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(LOCAL_ORIGINS, validate_default=True)
    cors_headers: Annotated[tuple[str, ...], NoDecode] = ()
    frame_ancestors: Annotated[tuple[str, ...], NoDecode] = ()
    trusted_proxies: Annotated[TrustedProxies, NoDecode] = ()
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,62}){0,8}$",
        description="a path such as /zoo, without a slash at its end",
    )
    cookie_samesite: Literal["lax", "strict", "none"] = "lax"
    cookie_secure: Literal["auto", "always", "never"] = Field("auto", validate_default=True)
    requests_per_round: int = Field(8, ge=1, le=200)
    max_pending: int = Field(1500, ge=1, le=1_000_000)
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
    queue_timeout_s: float = Field(30, gt=0, le=120, validation_alias="QUEUE_TIMEOUT")
    queue_depth: int = Field(8, ge=0, le=100)
    send_timeout_s: float = Field(30, gt=0, le=300, validation_alias="SEND_TIMEOUT")
    lease_s: float = Field(30, ge=0.3, le=300, validation_alias="LEASE")
    drain_timeout_s: float = Field(20, ge=0, le=300, validation_alias="DRAIN_TIMEOUT")
    session_ttl_s: int = Field(86_400, ge=1, validation_alias="SESSION_TTL")
    retention_days: int = Field(0, ge=0, le=3650)
    audit_days: int = Field(365, ge=1, le=3650)
    idempotency_ttl_s: int = Field(86_400, ge=1, validation_alias="IDEMPOTENCY_TTL")
    replay_window_s: float = Field(600, ge=0, validation_alias="REPLAY_WINDOW")
    replay_max_turns: int = Field(10_000, ge=1)
    event_log: Literal["memory", "redis"] = "memory"
    redis_url: str = Field("", repr=False, validate_default=True)
    offline_words_per_s: float = Field(12, ge=0, le=1000)
    offline_seed: int = 0
    signing_key: str = Field(DEVELOPMENT_KEY, min_length=32, repr=False)
    access_token_ttl_s: int = Field(900, ge=1, le=86_400, validation_alias="ACCESS_TOKEN_TTL")
    refresh_token_ttl_s: int = Field(2_592_000, ge=1, le=31_536_000, validation_alias="REFRESH_TOKEN_TTL")
    demo_users: Literal["on", "off"] = Field("on", validate_default=False)
    session_binding: Literal["id", "caller"] = "id"
    simulations: Literal["on", "off"] = "on"
    api_docs: Literal["on", "off"] = "on"
    credits_per_token: int = Field(1, ge=1, le=1_000_000)
    credits_per_prompt_token: int = Field(0, ge=0, le=1_000_000)
    rate_limit_turns: int | None = Field(None, ge=0, le=1_000_000)
    rate_limit_streams: int | None = Field(None, ge=0, le=1_000_000)
    rate_limit_reads: int | None = Field(None, ge=0, le=1_000_000)
    rate_limit_logins: int = Field(60, ge=0, le=1_000_000)
    rate_limit_address_factor: int = Field(5, ge=1, le=10_000)
    rate_limit_storage: str = Field("memory://", repr=False)

    @field_validator("cookie_samesite", "cookie_secure", mode="before")
    @classmethod
    def _lowercase(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("cookie_secure")
    @classmethod
    def _check_cookie_secure(cls, value: str, info: ValidationInfo) -> str:
        is_always = value == "always" or (value == "auto" and info.data.get("environment") == "production")
        if info.data.get("cookie_samesite") == "none" and not is_always:
            raise ValueError(
                "must be always with COOKIE_SAMESITE=none: browsers drop such cookies unless they are Secure"
            )
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _uppercase_log_level(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @property
    def store_variable(self) -> str:
        """The variable that says where the data is."""
        return "SQLITE_PATH" if self.store == "sqlite" else "CONVERSATION_STATE_TABLE_NAME"

    @property
    def dynamodb_location(self) -> DynamoLocation:
        return DynamoLocation(
            self.aws_region or DEFAULT_REGION,
            self.dynamodb_endpoint or None,
            self.conversation_session_table_name,
            self.conversation_dynamo_table_name,
            self.conversation_state_table_name,
        )

    @property
    def retention(self) -> timedelta | None:
        """How long messages and replies are kept; None: as long as their session."""
        return timedelta(days=self.retention_days) if self.retention_days else None

    @property
    def audit_retention(self) -> timedelta:
        return timedelta(days=self.audit_days)

    @property
    def turn_limit(self) -> int:
        """Turns that a caller may start in a minute; 0: any number."""
        return self._choose_limit(self.rate_limit_turns, PRODUCTION_TURNS)

    @property
    def stream_limit(self) -> int:
        """Streams that a caller may have open at once; 0: any number."""
        return self._choose_limit(self.rate_limit_streams, PRODUCTION_STREAMS)

    @property
    def read_limit(self) -> int:
        """Other requests of a caller in a minute; 0: any number."""
        return self._choose_limit(self.rate_limit_reads, PRODUCTION_READS)

    def _choose_limit(self, given: int | None, in_production: int) -> int:
        if given is not None:
            return given
        return in_production if self.environment == "production" else 0

    @property
    def may_administrators_read_metrics(self) -> bool:
        return self.metrics in ("admin", "both")

    @property
    def has_metrics_port(self) -> bool:
        return self.metrics in ("port", "both")

    @property
    def has_demo_users(self) -> bool:
        """Only in development, because their passwords are public."""
        return self.demo_users == "on" and self.environment == "development"

    @property
    def token_price(self) -> TokenPrice:
        """What the tokens of a turn cost in a session that costs credits."""
        return TokenPrice(self.credits_per_token, self.credits_per_prompt_token)

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

    @property
    def has_api_docs(self) -> bool:
        """Whether `/ui` is served; in production only if the variable is set."""
        is_enabled = self.environment == "development" or "api_docs" in self.model_fields_set
        return self.api_docs == "on" and is_enabled

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on settings that are allowed but dangerous, each with its variable."""
        if self.environment == "production" or self.is_loopback:
            return ()
        where = f"HOST={self.host} can be reached from other machines, and ENVIRONMENT is development"
        found = []
        if self.has_demo_users:
            found.append(f"DEMO_USERS: {where}: whoever reads the documentation can log in as admin (admin-demo)")
        if self.signing_key == DEVELOPMENT_KEY:
            found.append(f"SIGNING_KEY: {where}: the key is public, so anybody can make tokens. Set one: {MAKE_KEY}")
        return tuple(found)

    @field_validator("signing_key")
    @classmethod
    def _check_signing_key(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("environment") != "production":
            return value
        if value == DEVELOPMENT_KEY:
            raise ValueError(f"must be a secret of your own in production. Make one: {MAKE_KEY}")
        if estimate_key_bits(value) < MIN_KEY_BITS:
            raise ValueError(f"is too easy to guess (words, repetitions or sequences). Make another: {MAKE_KEY}")
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

    @field_validator("rate_limit_storage")
    @classmethod
    def _check_rate_limit_storage(cls, value: str) -> str:
        match = _STORAGE_URL.fullmatch(value)
        if match is None or int(match[1] or 0) > 65_535:
            raise ValueError("must be memory:// or the URL of a Redis with its port, such as redis://localhost:6379/0")
        return value

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: str, info: ValidationInfo) -> str:
        if not value and info.data.get("event_log") == "redis":
            raise ValueError("is required with EVENT_LOG=redis, such as redis://localhost:6379/0")
        match = _STORAGE_URL.fullmatch(value)
        if value and (value == "memory://" or match is None or int(match[1] or 0) > 65_535):
            raise ValueError("must be the URL of a Redis or Valkey with its port, such as redis://localhost:6379/0")
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

    @property
    def openai_endpoint(self) -> tuple[str, str | None]:
        """`OPENAI_BASE_URL` without its query, and the `api-version` there, which only Azure has."""
        url, _, query = self.openai_base_url.partition("?")
        found = _API_VERSION.fullmatch(query)
        return url, found[1] if found else None

    @field_validator("openai_base_url")
    @classmethod
    def _check_openai_base_url(cls, value: str) -> str:
        """As the library needs it: the address of a call, which people copy, is shortened to its base."""
        url, has_query, query = value.strip().partition("?")
        url = url.rstrip("/").removesuffix("/chat/completions").rstrip("/")
        if not re.fullmatch(_URL, url):
            raise ValueError(f"must be {_URL_FORM}; only Azure's ?api-version=... may stand at its end")
        if has_query and not _API_VERSION.fullmatch(query):
            raise ValueError("may only have api-version in its query, such as ?api-version=2024-10-21")
        host, path = (urlsplit(url).hostname or "").lower(), urlsplit(url).path
        if host.endswith(_AZURE_HOSTS):
            _check_azure_path(f"https://{host}", path, has_version=bool(query))
        return f"{url}?{query}" if query else url

    @field_validator("moderation_url", "openai_base_url", "anthropic_base_url", "bedrock_endpoint", "dynamodb_endpoint")
    @classmethod
    def _check_url(cls, value: str) -> str:
        """What the pattern lets through and no client can connect to."""
        try:
            parts = urlsplit(value)
            is_valid = not value or bool(parts.hostname and parts.port != 0)
        except ValueError:
            is_valid = False
        if not is_valid:
            raise ValueError(f"must be {_URL_FORM}")
        return value

    @field_validator("sqlite_path", mode="before")
    @classmethod
    def _check_sqlite_path(cls, value: object) -> object:
        """`~` is the home folder, as a shell reads it; what only other programs take for a path is refused."""
        if not isinstance(value, str):
            return value
        if ":memory:" in value:
            raise ValueError("must be a file: all that a database in memory holds is lost when the server ends")
        scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/*", value)
        if scheme:
            is_file = scheme[1].lower() in ("file", "sqlite", "sqlite3")
            rest = (value[scheme.end() :].partition("?")[0] if is_file else "") or "zoochat.sqlite3"
            raise ValueError(f"must be the path of a SQLite file, not a URL: write {rest} or /{rest}")
        if "$" in value:
            raise ValueError("must be written in full: variables in it are not replaced")
        path = Path(os.path.expanduser(value))  # noqa: PTH111  # `Path.expanduser` raises for an unknown user
        if path.parts and path.parts[0].startswith("~"):
            raise ValueError(f"{path.parts[0]} is not the home folder of any user of this machine")
        try:
            is_folder = path.is_dir()
        except OSError as error:
            raise ValueError(f"cannot be opened: {error.strerror}") from None
        if value.endswith(("/", "/.", "/..")) or is_folder:
            raise ValueError(f"is a folder; name a file in it, such as {path / 'zoochat.sqlite3'}")
        return path

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _parse_origins(cls, value: object, info: ValidationInfo) -> object:
        is_production = info.data.get("environment") == "production"
        if value == LOCAL_ORIGINS and is_production:
            # The default, which is for development: no page of another origin may call.
            return ()
        origins = value
        if isinstance(value, str):
            # A comma at the end is no origin.
            origins = [part.strip().rstrip("/") for part in value.split(",") if part.strip()]
            if not origins:
                raise ValueError("must name at least one origin such as https://zoo.example")
        for origin in origins if isinstance(origins, list) else []:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is not an origin such as https://zoo.example; * is never allowed")
            if is_production and _is_private_host(urlsplit(origin).hostname or ""):
                raise ValueError(
                    f"{origin!r} must not be allowed in production: it is another machine for every visitor, and "
                    "whoever has that address could send requests with the visitor's cookie"
                )
        return origins

    @field_validator("cors_headers", mode="before")
    @classmethod
    def _parse_headers(cls, value: object) -> object:
        names = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        for name in names if isinstance(names, list) else []:
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not the name of a header; * is never allowed")
        return names

    @field_validator("frame_ancestors", mode="before")
    @classmethod
    def _parse_frame_ancestors(cls, value: object) -> object:
        given = [part.strip().rstrip("/") for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(given, list):
            return given
        for origin in given:
            if origin != "self" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is neither self nor an origin such as https://zoo.example")
        return ["'self'" if origin == "self" else origin for origin in given]

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _parse_trusted_proxies(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if re.fullmatch(r"[0-9]{1,4}", value.strip(), re.ASCII):
            hops = int(value)
            if hops > MAX_PROXIES:
                raise ValueError(f"must be at most {MAX_PROXIES} proxies, or a list of networks")
            return hops
        try:
            return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            raise ValueError(
                f"{value!r} is neither a number of proxies nor a list of networks such as 10.0.0.0/8, 2001:db8::/32"
            ) from None


def _is_private_host(host: str) -> bool:
    """Whether it is this machine or one of a private network, in any spelling that browsers read.

    >>> [_is_private_host(host) for host in ("0x7f.1", "foo.localhost.", "::ffff:10.0.0.1", "zoo.example", "8.8.8.8")]
    [True, True, True, False, False]
    """
    name = host.lower().strip(".")
    if any(name == local or name.endswith(f".{local}") for local in _LOCAL_NAMES):
        return True
    try:
        # It reads what browsers read: fewer than four parts, octal and hexadecimal digits.
        address = ip_address(inet_aton(name)) if ":" not in name else ip_address(name)
    except (OSError, ValueError):
        return False
    if isinstance(address, IPv6Address):
        embedded = address.ipv4_mapped or address.sixtofour or _find_embedded(address)
        address = embedded or address
    return not address.is_global


def _find_embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address in an IPv4-compatible address (::/96), or in one that NAT64 translates (RFC 6052)."""
    is_embedding = any(address in network for network in _EMBEDDING_NETWORKS)
    return IPv4Address(int(address) & 0xFFFFFFFF) if is_embedding else None


def _check_azure_path(base: str, path: str, *, has_version: bool) -> None:
    """Raises ValueError with what to write. `/openai/v1` has no version; a deployment's address has one."""
    examples = f"{base}/openai/v1, or {base}/openai/deployments/NAME?api-version=2024-10-21"
    if path.startswith("/openai/deployments/") or path == "/models":
        if not has_version:
            raise ValueError(f"is of Azure and needs its API version: write {base}{path}?api-version=2024-10-21")
    elif path != "/openai/v1":
        raise ValueError(f"is of Azure and needs a path: write {examples}")


def load_settings(**overrides: object) -> Settings:
    """The settings of this process. `ConfigError` names each invalid variable, where it stands and what it must be."""
    try:
        file = read_settings_file(SETTINGS_PATH)
    except SettingsFileError as error:
        raise ConfigError(str(error)) from None
    sentences = [f"{name}: {_REPLACED[name]}" for name in _RENAMED if is_in_environment(name)]
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # the model checks them
    except ValidationError as error:
        sentences += [f"{get_variable_name(part)}: {_make_sentence(part)}" for part in error.errors()]
    if sentences:
        raise ConfigError("\n".join(locate_sentence(sentence, file) for sentence in dict.fromkeys(sentences)))
    return settings


def locate_sentence(sentence: str, file: SettingsFile) -> str:
    """Add to a sentence that begins with a variable's name where the variable is set.

    >>> locate_sentence("PORT: must be a whole number", SettingsFile(Path(".env.local"), {"PORT": 12}))
    '.env.local:12: PORT: must be a whole number'
    """
    name = sentence.partition(":")[0]
    if is_in_environment(name):
        return f"{sentence} (set in the environment)"
    place = file.locate(name)
    return f"{place}: {sentence}" if place else sentence


def explain_config_error(error: ConfigError) -> str:
    """The message of an error that was found later than in `load_settings`, with the file and line where it has one."""
    try:
        file = read_settings_file(SETTINGS_PATH)
    except SettingsFileError:
        return str(error)
    return "\n".join(locate_sentence(sentence, file) for sentence in str(error).splitlines())


def list_variables() -> dict[str, str]:
    """The environment variables of all settings, with the fields that they set."""
    return {str(field.validation_alias or name).upper(): name for name, field in Settings.model_fields.items()}


def get_variable_name(part: ErrorDetails) -> str:
    """The environment variable of a validation error. pydantic names the field when a default is invalid."""
    name = str(part["loc"][0]) if part["loc"] else "settings"
    field = None if part["type"] == "extra_forbidden" else Settings.model_fields.get(name)
    return str(field.validation_alias if field and field.validation_alias else name).upper()


def _make_sentence(part: ErrorDetails) -> str:
    """What is wrong with a setting, and what it must be. The value is repeated unless it may be a secret."""
    name = get_variable_name(part)
    if part["type"] == "extra_forbidden":
        suggestion = suggest_name(name, list_variables())
        meant = f"; did you mean {suggestion}?" if suggestion else "; .env.local.example lists them all"
        return _REPLACED.get(name) or f"is not a setting{meant}"
    if part["type"] == "value_error":
        return str(part["ctx"]["error"])
    field = Settings.model_fields.get(list_variables().get(name, ""))
    return f"must be {_describe_values(field, part)}{_quote_value(field, part['input'])}"


def _describe_values(field: FieldInfo | None, part: ErrorDetails) -> str:
    """The values that a setting may have, as the end of "must be ..."."""
    limits = {type(limit).__name__: limit for limit in field.metadata} if field else {}
    match part["type"]:
        case "literal_error":
            return str(part["ctx"]["expected"]).replace("'", "")
        case "bool_parsing" | "bool_type":
            return "true or false"
        case "string_too_short":
            return f"at least {part['ctx']['min_length']} characters long"
        case "string_pattern_mismatch":
            return field.description if field and field.description else "spelt as .env.local.example shows"
    is_whole = part["type"].startswith("int") or (field is not None and field.annotation is int)
    number = "a whole number" if is_whole else "a number"
    at_least, at_most = getattr(limits.get("Ge"), "ge", None), getattr(limits.get("Le"), "le", None)
    above = getattr(limits.get("Gt"), "gt", None)
    if at_least is not None and at_most is not None:
        return f"{number} from {at_least} to {at_most}"
    bounds = [
        f"{word} {bound}"
        for word, bound in (("of at least", at_least), ("above", above), ("up to", at_most))
        if bound is not None
    ]
    return " ".join([number, " and ".join(bounds)]).strip()


def _quote_value(field: FieldInfo | None, value: object) -> str:
    """The value, unless it is a secret, may contain one, or is too long to be read in a sentence."""
    is_shown = field is not None and field.repr and isinstance(value, str) and len(value) <= 60 and "@" not in value
    return f", not {value!r}" if is_shown else ""
