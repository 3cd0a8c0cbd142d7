"""Settings: an invalid value stops the start, and the message names it."""

from __future__ import annotations

import os
import re
import secrets
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from pydantic import ValidationError

from openapi_server.config import DEVELOPMENT_KEY, LOCAL_ORIGINS, ConfigError, load_settings
from tests.support.examples import OWN_KEY


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the developer's variables nor a `.env.local` of theirs may decide a test."""
    for name in os.environ:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


DEFAULTS: dict[str, object] = {
    "environment": "development",
    "host": "127.0.0.1",
    "port": 8080,
    "log_level": "INFO",
    "sqlite_path": Path(".data/zoochat.sqlite3"),
    "provider": "offline",
    "openai_base_url": "https://api.openai.com/v1",
    "anthropic_base_url": "https://api.anthropic.com",
    "temperature": None,
    "max_tokens": 512,
    "connect_timeout_s": 3,
    "first_token_timeout_s": 8,
    "provider_retries": 2,
    "breaker_failures": 5,
    "breaker_pause_s": 30,
    "semantic": "auto",
    "default_animal": "lion_001",
    "cors_origins": LOCAL_ORIGINS,
    "validate_responses": False,
    "max_body_bytes": 262_144,
    "request_timeout_s": 10,
    "turn_deadline_s": 120,
    "stream_idle_timeout_s": 30,
    "heartbeat_s": 15,
    "replay_window_s": 600,
    "replay_max_turns": 10_000,
    "offline_words_per_s": 12,
    "offline_seed": 0,
    "access_token_ttl_s": 900,
    "refresh_token_ttl_s": 2_592_000,
    "demo_users": "on",
    "credits_per_token": 1,
    "credits_per_prompt_token": 0,
}


def test_nothing_has_to_be_set() -> None:
    """A fresh checkout starts, for development, reachable from this machine only."""
    assert DEFAULTS.items() <= load_settings().model_dump().items()


GOOD: list[tuple[str, str, str, object]] = [
    ("ENVIRONMENT", "development", "environment", "development"),
    ("HOST", "::", "host", "::"),
    ("PORT", "0", "port", 0),
    ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
    ("SQLITE_PATH", "/var/zoo.sqlite3", "sqlite_path", Path("/var/zoo.sqlite3")),
    ("DEFAULT_ANIMAL", "tiger_001", "default_animal", "tiger_001"),
    ("CORS_ORIGINS", "https://zoo.example", "cors_origins", ("https://zoo.example",)),
    (
        "CORS_ORIGINS",
        " https://zoo.example/ , http://[::1]:8080",
        "cors_origins",
        ("https://zoo.example", "http://[::1]:8080"),
    ),
    ("CORS_ORIGINS", "http://localhost:3000,", "cors_origins", ("http://localhost:3000",)),
    ("CORS_ORIGINS", ",https://a.example,,", "cors_origins", ("https://a.example",)),
    ("LOG_FORMAT", "json", "log_format", "json"),
    ("OPENAI_BASE_URL", "http://localhost:11434/v1", "openai_base_url", "http://localhost:11434/v1"),
    ("OPENAI_API_KEY", "sk-1", "openai_api_key", "sk-1"),
    ("OPENAI_MODEL", "llama3:8b", "openai_model", "llama3:8b"),
    ("ANTHROPIC_BASE_URL", "https://proxy.example", "anthropic_base_url", "https://proxy.example"),
    ("ANTHROPIC_API_KEY", "sk-1", "anthropic_api_key", "sk-1"),
    ("ANTHROPIC_MODEL", "claude-1", "anthropic_model", "claude-1"),
    ("AWS_REGION", "eu-west-1", "aws_region", "eu-west-1"),
    ("BEDROCK_ENDPOINT", "https://vpce.example", "bedrock_endpoint", "https://vpce.example"),
    ("BEDROCK_MODEL", "arn:aws:bedrock:eu-west-1::m/a-1", "bedrock_model", "arn:aws:bedrock:eu-west-1::m/a-1"),
    ("TEMPERATURE", "0", "temperature", 0),
    ("MAX_TOKENS", "64", "max_tokens", 64),
    ("CONNECT_TIMEOUT", "0.5", "connect_timeout_s", 0.5),
    ("FIRST_TOKEN_TIMEOUT", "1.5", "first_token_timeout_s", 1.5),
    ("PROVIDER_RETRIES", "0", "provider_retries", 0),
    ("BREAKER_FAILURES", "1", "breaker_failures", 1),
    ("BREAKER_PAUSE", "5", "breaker_pause_s", 5),
    ("REQUESTS_PER_ROUND", "2", "requests_per_round", 2),
    ("MAX_PENDING", "50", "max_pending", 50),
    ("VALIDATE_RESPONSES", "true", "validate_responses", True),
    ("MAX_BODY_BYTES", "1024", "max_body_bytes", 1024),
    ("REQUEST_TIMEOUT", "0.5", "request_timeout_s", 0.5),
    ("TURN_DEADLINE", "300", "turn_deadline_s", 300),
    ("STREAM_IDLE_TIMEOUT", "1", "stream_idle_timeout_s", 1),
    ("HEARTBEAT", "0.2", "heartbeat_s", 0.2),
    ("REPLAY_WINDOW", "0", "replay_window_s", 0),
    ("REPLAY_MAX_TURNS", "1", "replay_max_turns", 1),
    ("OFFLINE_WORDS_PER_S", "0", "offline_words_per_s", 0),
    ("OFFLINE_SEED", "-7", "offline_seed", -7),
    ("SIGNING_KEY", OWN_KEY, "signing_key", OWN_KEY),
    ("ACCESS_TOKEN_TTL", "60", "access_token_ttl_s", 60),
    ("REFRESH_TOKEN_TTL", "3600", "refresh_token_ttl_s", 3600),
    ("DEMO_USERS", "off", "demo_users", "off"),
    ("CREDITS_PER_TOKEN", "3", "credits_per_token", 3),
    ("CREDITS_PER_PROMPT_TOKEN", "2", "credits_per_prompt_token", 2),
    ("TRUSTED_PROXIES", "2", "trusted_proxies", 2),
    ("TRUSTED_PROXIES", "10.0.0.0/8, ::1", "trusted_proxies", (ip_network("10.0.0.0/8"), ip_network("::1"))),
    ("ROOT_PATH", "/zoo/chat", "root_path", "/zoo/chat"),
    ("COOKIE_SAMESITE", "Strict", "cookie_samesite", "strict"),
    ("COOKIE_SECURE", "never", "cookie_secure", "never"),
    ("RATE_LIMIT_TURNS", "7", "turn_limit", 7),
    ("RATE_LIMIT_STREAMS", "8", "stream_limit", 8),
    ("RATE_LIMIT_READS", "9", "read_limit", 9),
    ("RATE_LIMIT_LOGINS", "0", "rate_limit_logins", 0),
    ("RATE_LIMIT_ADDRESS_FACTOR", "1", "rate_limit_address_factor", 1),
    ("RATE_LIMIT_STORAGE", "redis://redis:6379/0", "rate_limit_storage", "redis://redis:6379/0"),
    ("RATE_LIMIT_STORAGE", "rediss://u:p%40@r.example:1", "rate_limit_storage", "rediss://u:p%40@r.example:1"),
    ("REDIS_URL", "redis://:p%40@redis:6379/2", "redis_url", "redis://:p%40@redis:6379/2"),
    ("RETENTION_DAYS", "30", "retention", timedelta(days=30)),
    ("RETENTION_DAYS", "0", "retention", None),
    ("AUDIT_DAYS", "90", "audit_retention", timedelta(days=90)),
]
GOOD_IDS = [f"{name}={value}" for name, value, _, _ in GOOD]


@pytest.mark.parametrize(("name", "value", "field", "expected"), GOOD, ids=GOOD_IDS)
def test_the_environment_sets_each_field(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, expected: object
) -> None:
    """Each field has one variable."""
    monkeypatch.setenv(name, value)

    assert getattr(load_settings(), field) == expected


@pytest.mark.parametrize(("name", "value", "field", "expected"), GOOD, ids=GOOD_IDS)
def test_the_file_sets_each_field_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, expected: object
) -> None:
    """`.env.local` is for what stays; the environment is for now. An empty variable counts as not set."""
    Path(".env.local").write_text(f"# a comment\n{name}='{value}'\n", encoding="utf-8")
    monkeypatch.setenv(name, "")
    assert getattr(load_settings(), field) == expected

    Path(".env.local").write_text(f"{name}=!\n", encoding="utf-8")
    monkeypatch.setenv(name, value)
    assert getattr(load_settings(), field) == expected


BAD = [
    ("ENVIRONMENT", "staging"),
    ("PORT", "65536"),
    ("PORT", "-1"),
    ("PORT", "eighty"),
    ("LOG_LEVEL", "LOUD"),
    ("PROVIDER", "parrot"),
    ("DEFAULT_ANIMAL", "Lion"),
    ("DEFAULT_ANIMAL", "lion_001\n"),
    ("DEFAULT_ANIMAL", "../lion"),
    ("CORS_ORIGINS", "*"),
    ("CORS_ORIGINS", "https://zoo.example,*"),
    ("CORS_ORIGINS", "null"),
    ("CORS_ORIGINS", ","),
    ("CORS_ORIGINS", "zoo.example"),
    ("CORS_ORIGINS", "https://*.zoo.example"),
    ("CORS_ORIGINS", "https://zoo.example/path"),
    ("CORS_ORIGINS", "https://zoo.example\r\nX-Evil: 1"),
    ("OPENAI_BASE_URL", "localhost:11434"),
    ("OPENAI_BASE_URL", "https://user:password@proxy.example"),
    ("OPENAI_BASE_URL", "http://[::1"),
    ("OPENAI_BASE_URL", "http://localhost:99999/v1"),
    ("ANTHROPIC_BASE_URL", "https://:443"),
    ("LOG_FORMAT", "xml"),
    ("SQLITE_PATH", "sqlite:///x.db"),
    ("ANTHROPIC_BASE_URL", "https://proxy.example/?key=1"),
    ("BEDROCK_ENDPOINT", "ftp://vpce.example"),
    ("OPENAI_API_KEY", "sk 1"),
    ("ANTHROPIC_API_KEY", "schlüssel"),
    ("OPENAI_MODEL", "gpt\n1"),
    ("AWS_REGION", "EU West"),
    ("TEMPERATURE", "2.1"),
    ("TEMPERATURE", "nan"),
    ("MAX_TOKENS", "0"),
    ("CONNECT_TIMEOUT", "0"),
    ("FIRST_TOKEN_TIMEOUT", "inf"),
    ("PROVIDER_RETRIES", "-1"),
    ("BREAKER_FAILURES", "0"),
    ("BREAKER_PAUSE", "0"),
    ("REQUESTS_PER_ROUND", "0"),
    ("MAX_PENDING", "0"),
    ("VALIDATE_RESPONSES", "perhaps"),
    ("MAX_BODY_BYTES", "10"),
    ("REQUEST_TIMEOUT", "0"),
    ("REQUEST_TIMEOUT", "nan"),
    ("REQUEST_TIMEOUT", "inf"),
    ("TURN_DEADLINE", "301"),
    ("STREAM_IDLE_TIMEOUT", "-1"),
    ("HEARTBEAT", "16"),
    ("REPLAY_WINDOW", "-1"),
    ("REPLAY_WINDOW", "nan"),
    ("REPLAY_MAX_TURNS", "0"),
    ("OFFLINE_WORDS_PER_S", "nan"),
    ("OFFLINE_SEED", "lucky"),
    ("SIGNING_KEY", "short"),
    ("ACCESS_TOKEN_TTL", "0"),
    ("REFRESH_TOKEN_TTL", "0"),
    ("DEMO_USERS", "perhaps"),
    ("CREDITS_PER_TOKEN", "0"),
    ("CREDITS_PER_PROMPT_TOKEN", "-1"),
    ("TRUSTED_PROXIES", "*"),
    ("TRUSTED_PROXIES", "11"),
    ("TRUSTED_PROXIES", "-1"),
    ("TRUSTED_PROXIES", "proxy.example"),
    ("TRUSTED_PROXIES", "10.0.0.1/8"),
    ("ROOT_PATH", "zoo"),
    ("ROOT_PATH", "/zoo/"),
    ("ROOT_PATH", "//evil.example"),
    ("ROOT_PATH", "/../zoo"),
    ("COOKIE_SAMESITE", "sometimes"),
    ("COOKIE_SECURE", "perhaps"),
    ("RATE_LIMIT_TURNS", "-1"),
    ("RATE_LIMIT_STREAMS", "many"),
    ("RATE_LIMIT_READS", "1000001"),
    ("RATE_LIMIT_LOGINS", "-1"),
    ("RATE_LIMIT_ADDRESS_FACTOR", "0"),
    ("RATE_LIMIT_STORAGE", "memory"),
    ("RATE_LIMIT_STORAGE", "redis://redis"),
    ("RATE_LIMIT_STORAGE", "redis://redis:65536/0"),
    ("RATE_LIMIT_STORAGE", "redis://redis:port/0"),
    ("RATE_LIMIT_STORAGE", "redis://[::1"),
    ("RATE_LIMIT_STORAGE", "memcached://cache:11211"),
    ("EVENT_LOG", "kafka"),
    ("REDIS_URL", "memory://"),
    ("REDIS_URL", "redis://redis"),
    ("REDIS_URL", "redis://redis:65536/0"),
    ("REDIS_URL", "http://redis:6379"),
    ("RETENTION_DAYS", "-1"),
    ("RETENTION_DAYS", "3651"),
    ("AUDIT_DAYS", "0"),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{name}={value!r}" for name, value in BAD])
def test_a_bad_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Whoever set it reads one line that says which variable it is and what is wrong with it."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError) as refusal:
        load_settings()
    (line,) = str(refusal.value).splitlines()
    assert line.startswith(f"{name}: ")
    assert len(line) > len(f"{name}: ")


def test_a_shared_event_log_needs_an_address() -> None:
    """And with it, that is all."""
    with pytest.raises(ConfigError, match="REDIS_URL: is required with EVENT_LOG=redis"):
        load_settings(event_log="redis")
    assert load_settings(event_log="redis", redis_url="redis://redis:6379/0").event_log == "redis"


def test_production_has_a_secret_of_its_own_and_no_demo_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With that, it starts; the demo accounts that development has are off without a word."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("SIGNING_KEY", OWN_KEY)

    assert load_settings().environment == "production"
    assert not load_settings().has_demo_users
    monkeypatch.setenv("ENVIRONMENT", "development")
    assert load_settings().has_demo_users


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIGNING_KEY", ""),
        ("SIGNING_KEY", DEVELOPMENT_KEY),
        ("SIGNING_KEY", "x" * 31),
        ("SIGNING_KEY", "x" * 64),
        ("SIGNING_KEY", "0123456789abcdef" * 2),
        ("SIGNING_KEY", "our zoo has the very best lions of them all"),
        ("DEMO_USERS", "on"),
        ("CORS_ORIGINS", "http://localhost:3000"),
        ("CORS_ORIGINS", "https://zoo.example,http://127.0.0.1:8080"),
        ("CORS_ORIGINS", "http://[::1]"),
        ("CORS_ORIGINS", "http://app.LOCALHOST:3000"),
        ("CORS_ORIGINS", ",".join(LOCAL_ORIGINS)),
        ("SIGNING_KEY", "d41d8cd98f00b204e9800998ecf8427e"),
        ("SIGNING_KEY", "3.14159265358979323846264338327950288"),
        ("SIGNING_KEY", "a-string-secret-at-least-256-bits-long"),
    ],
)
def test_production_refuses_what_everybody_knows(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The message names the variable and contains no secret."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("SIGNING_KEY", OWN_KEY)
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=rf"^{name}: ") as refusal:
        load_settings()
    assert DEVELOPMENT_KEY not in str(refusal.value)
    assert "xxxx" not in str(refusal.value)


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost.", "LOCALHOST", "foo.localhost", "localhost.localdomain", "localhost6", "ip6-loopback",
        "2130706433", "0x7f.1", "0x7f000001", "127.1", "127.0.1", "0177.0.0.1", "017700000001", "127.255.255.254",
        "0.0.0.0", "0", "127.0.0.1.",  # noqa: S104
        "10.1.2.3", "10.1", "192.168.0.1", "0xc0a80001", "172.16.5.4", "169.254.169.254",
        "100.64.0.1", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:7f00:1]", "[::7f00:1]", "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]", "[::ffff:127.0.0.1]", "[fe80::1]", "[fc00::1]", "[fd12:3456::1]", "zoo.local",
        "zoo.internal", "zoo.home.arpa", "127.0.0.1.nip.io", "app.localtest.me", "lvh.me", "host.docker.internal",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["http://{}", "https://{}:8443"])
def test_production_allows_no_origin_of_this_machine_or_a_private_network(
    monkeypatch: pytest.MonkeyPatch, form: str, host: str
) -> None:
    """However it is spelt; development allows those that are origins."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("SIGNING_KEY", OWN_KEY)
    monkeypatch.setenv("CORS_ORIGINS", f"https://zoo.example,{form.format(host)}")

    with pytest.raises(ConfigError, match=r"^CORS_ORIGINS: 'https?://.* (must not be allowed|is not an origin)"):
        load_settings()


@pytest.mark.parametrize(
    "host",
    ["zoo.example", "localhost.zoo.example", "local.zoo.example", "mylocalhost.example", "10.zoo.example", "8.8.8.8",
     "127.zoo.example", "internal.example", "nip.io.zoo.example", "[2606:4700::1111]", "xn--lwe-tna.example"],
)  # fmt: skip
def test_production_allows_origins_that_look_like_private_ones(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """They are public."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("SIGNING_KEY", OWN_KEY)
    monkeypatch.setenv("CORS_ORIGINS", f"https://{host}")

    assert load_settings().cors_origins == (f"https://{host}",)


def test_production_says_how_to_make_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a command that needs nothing but Python, and whose key is accepted."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(ConfigError, match=r'python3 -c "import secrets; print\(secrets.token_urlsafe\(32\)\)"'):
        load_settings()

    monkeypatch.setenv("SIGNING_KEY", secrets.token_urlsafe(32))
    assert load_settings().warnings == ()


def test_production_has_no_local_origins_and_no_api_docs_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults are for development."""
    assert load_settings().cors_origins == LOCAL_ORIGINS
    assert load_settings().has_api_docs
    monkeypatch.setenv("API_DOCS", "off")
    assert not load_settings().has_api_docs
    monkeypatch.delenv("API_DOCS")

    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("SIGNING_KEY", OWN_KEY)
    assert load_settings().cors_origins == ()
    assert not load_settings().has_api_docs
    monkeypatch.setenv("API_DOCS", "on")
    monkeypatch.setenv("CORS_ORIGINS", "https://localhost.zoo.example")
    assert load_settings().has_api_docs
    assert load_settings().cors_origins == ("https://localhost.zoo.example",)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "zoo.example"])  # noqa: S104
def test_development_on_a_public_address_warns(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Of the demo accounts and of the public key, as long as there are any."""
    monkeypatch.setenv("HOST", host)
    assert [warning.split(":")[0] for warning in load_settings().warnings] == ["DEMO_USERS", "SIGNING_KEY"]

    monkeypatch.setenv("DEMO_USERS", "off")
    monkeypatch.setenv("SIGNING_KEY", OWN_KEY)
    assert load_settings().warnings == ()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_development_on_this_machine_does_not_warn(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HOST", host)

    assert load_settings().warnings == ()


def test_production_limits_what_development_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a variable says otherwise; logins are limited in both."""
    monkeypatch.setenv("SIGNING_KEY", OWN_KEY)
    monkeypatch.setenv("RATE_LIMIT_READS", "0")
    limits = [
        (made.turn_limit, made.stream_limit, made.read_limit, made.rate_limit_logins)
        for made in (load_settings(), load_settings(environment="production"))
    ]

    assert limits == [(0, 0, 0, 60), (120, 40, 0, 60)]


@pytest.mark.parametrize("name", ["signing_key", "openai_api_key", "anthropic_api_key"])
def test_keys_are_not_shown_where_settings_are(name: str) -> None:
    """They stand in error reports and debuggers."""
    settings = load_settings(**{name: OWN_KEY})

    assert name not in repr(settings)
    assert OWN_KEY not in repr(settings)
    assert OWN_KEY not in str(settings)


NEEDED = {
    "openai": ("OPENAI_API_KEY", "OPENAI_MODEL"),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_MODEL"),
    "bedrock": ("AWS_REGION", "BEDROCK_MODEL"),
}


@pytest.mark.parametrize("provider", NEEDED)
def test_a_chosen_provider_names_its_required_settings(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    """All missing settings are named at once; with them, it starts."""
    monkeypatch.setenv("PROVIDER", provider)

    with pytest.raises(ConfigError) as refusal:
        load_settings()
    lines = str(refusal.value).splitlines()
    assert tuple(line.partition(":")[0] for line in lines) == NEEDED[provider]
    for name in NEEDED[provider]:
        monkeypatch.setenv(name, "any-1")
    assert load_settings().provider == provider


def test_a_server_of_ones_own_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only OpenAI's own server requires one."""
    monkeypatch.setenv("PROVIDER", "openai")
    monkeypatch.setenv("OPENAI_MODEL", "llama3")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:11434/v1")

    assert load_settings().openai_api_key == ""


def test_the_fallback_gets_to_speak_before_the_turn_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first-token timeout must be shorter than the idle timeout; the offline provider has none."""
    monkeypatch.setenv("STREAM_IDLE_TIMEOUT", "8")
    assert load_settings().provider == "offline"
    monkeypatch.setenv("PROVIDER", "openai")
    monkeypatch.setenv("OPENAI_MODEL", "gpt-1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")

    with pytest.raises(ConfigError, match=r"^FIRST_TOKEN_TIMEOUT: .*STREAM_IDLE_TIMEOUT"):
        load_settings()
    monkeypatch.setenv("FIRST_TOKEN_TIMEOUT", "7.9")
    assert load_settings().first_token_timeout_s == 7.9


def test_all_bad_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They can all be fixed before the next start."""
    monkeypatch.setenv("PORT", "eighty")
    monkeypatch.setenv("HEARTBEAT", "90")

    with pytest.raises(ConfigError) as refusal:
        load_settings()
    assert [line.partition(":")[0] for line in str(refusal.value).splitlines()] == ["PORT", "HEARTBEAT"]


@pytest.mark.parametrize("name", ["PROT", "CORS_ORIGIN", "HEARTBEAT_S"])
def test_an_unknown_key_in_the_file_is_refused(name: str) -> None:
    """A misspelt setting must not be ignored."""
    Path(".env.local").write_text(f"{name}=1\n", encoding="utf-8")

    with pytest.raises(
        ConfigError, match=rf"^\.env\.local:1: {name}: is not a setting; did you mean (PORT|CORS_ORIGINS|HEARTBEAT)\?$"
    ):
        load_settings()


def test_unknown_variables_of_the_environment_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs keep theirs there."""
    monkeypatch.setenv("PROT", "1")

    assert load_settings().port == 8080


def test_settings_do_not_change_while_the_server_runs() -> None:
    """The settings are read once, at the start."""
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().port = 1


@pytest.mark.parametrize("secure", ["auto", "never"])
def test_a_cookie_for_other_sites_has_to_be_secure(monkeypatch: pytest.MonkeyPatch, secure: str) -> None:
    """Browsers drop it otherwise, and every message would begin a new session."""
    monkeypatch.setenv("COOKIE_SAMESITE", "none")
    monkeypatch.setenv("COOKIE_SECURE", secure)

    with pytest.raises(ConfigError, match=r"COOKIE_SECURE: .*always with COOKIE_SAMESITE=none"):
        load_settings()

    monkeypatch.setenv("COOKIE_SECURE", "always")
    assert load_settings().cookie_samesite == "none"


def test_a_cookie_for_other_sites_needs_no_more_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """There `auto` means Secure."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("SIGNING_KEY", OWN_KEY)
    monkeypatch.setenv("COOKIE_SAMESITE", "none")

    assert load_settings().cookie_secure == "auto"


def test_uvicorns_variable_for_proxies_is_refused_with_ours() -> None:
    """Whoever knows uvicorn writes it, and is told what to write instead."""
    Path(".env.local").write_text("FORWARDED_ALLOW_IPS=*\n", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"^\.env\.local:1: FORWARDED_ALLOW_IPS: .*TRUSTED_PROXIES"):
        load_settings()


def test_a_setting_that_was_renamed_is_refused_with_its_new_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment too, where unknown variables are otherwise none of the server's business."""
    sentence = "FLASK_THREADS: is now called REQUESTS_PER_ROUND, with the same values: rename it"
    Path(".env.local").write_text("PORT=1\nflask_threads=4\n", encoding="utf-8")
    with pytest.raises(ConfigError) as in_file:
        load_settings()
    monkeypatch.setenv("FLASK_THREADS", "4")
    with pytest.raises(ConfigError) as in_both:
        load_settings()
    Path(".env.local").unlink()
    with pytest.raises(ConfigError) as in_environment:
        load_settings()

    assert str(in_file.value) == f".env.local:2: {sentence}"
    assert str(in_both.value) == str(in_environment.value) == f"{sentence} (set in the environment)"


def write_settings(content: bytes) -> None:
    Path(".env.local").write_bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"HEARTBEAT=5\n\n# a comment\nPORT=many\n",
            r"\.env\.local:4: PORT: must be a whole number from 0 to 65535, not 'many'",
        ),
        (b"port=1\r\nexport PORT=-1\r\n", r"\.env\.local:2: PORT: must be a whole number .*"),
        (b"PORT=1\nPORT=x\n", r"\.env\.local:2: PORT: .*"),
        (b"\n\nPROT=1\n", r"\.env\.local:3: PROT: is not a setting; did you mean PORT\?"),
        (b"DATABASE_URL=x\n", r"\.env\.local:1: DATABASE_URL: is not a setting; did you mean SQLITE_PATH\?"),
        (b"XYZZY=1\n", r"\.env\.local:1: XYZZY: is not a setting; \.env\.local\.example lists them all"),
        (b"PORT 8080\n", r"\.env\.local:1: is no setting; write NAME=value, with quotes closed"),
        (b"HEARTBEAT=5\nPORT\n", r"\.env\.local:2: is no setting; .*"),
        (b'HEARTBEAT=5\nHOST="::1\nPORT=1\n', r"\.env\.local:2: is no setting; .*"),
        (
            "# grüß\nPORT=1\n".encode("latin-1"),
            r"\.env\.local:1: is not in UTF-8 \(byte 0xfc\); save the file as UTF-8",
        ),
        ("PORT=1\n".encode("utf-16"), r"\.env\.local: is not in UTF-8 but looks like UTF-16; save it as UTF-8"),
        ("PORT=1\n".encode("utf-16-be"), r"\.env\.local: is not in UTF-8 but looks like UTF-16; .*"),
    ],
)
def test_an_error_in_the_file_names_file_and_line(content: bytes, message: str) -> None:
    """Whoever edits the file goes straight there. No traceback, whatever an editor made of it."""
    write_settings(content)

    with pytest.raises(ConfigError) as refusal:
        load_settings()
    assert re.fullmatch(message, str(refusal.value))


def test_a_folder_in_the_place_of_the_file_is_named() -> None:
    """As a container makes one where a file was to be mounted."""
    Path(".env.local").mkdir()

    with pytest.raises(ConfigError, match=r"^\.env\.local: is a folder"):
        load_settings()


@pytest.mark.parametrize("name", ["PORT", "port"])
def test_an_error_in_the_environment_says_so(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The environment wins over the file, so the file is not to blame."""
    write_settings(b"PORT=1\n")
    monkeypatch.setenv(name, "many")

    with pytest.raises(ConfigError, match=r"^PORT: must be a whole number .*, not 'many' \(set in the environment\)$"):
        load_settings()


def test_a_byte_order_mark_is_no_error() -> None:
    """Editors of Windows write one."""
    write_settings(b"\xef\xbb\xbfPORT=1\n")

    assert load_settings().port == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIGNING_KEY", "hush"),
        ("OPENAI_API_KEY", "hush hush"),
        ("RATE_LIMIT_STORAGE", "redis://:hush@redis/zoo"),
        ("OPENAI_BASE_URL", "https://user:hush@proxy.example"),
        ("SQLITE_PATH", "postgresql://user:hush@db/zoo"),
    ],
)
def test_a_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The message ends in logs and tickets."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError, match=f"^{name}: ") as refusal:
        load_settings()
    assert "hush" not in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("sqlite:///x.db", "must be the path of a SQLite file, not a URL: write x.db or /x.db"),
        ("sqlite:////var/x.db", "must be the path of a SQLite file, not a URL: .*"),
        ("file:x.db?mode=ro", "must be the path of a SQLite file, not a URL: write x.db or /x.db"),
        ("postgresql://db/zoo", "must be the path of a SQLite file, not a URL: .*"),
        (":memory:", "must be a file: .*"),
        ("file::memory:?cache=shared", "must be a file: .*"),
        ("$HOME/x.db", "must be written in full: .*"),
        ("~nobody-of-that-name/x.db", "~nobody-of-that-name is not the home folder .*"),
        ("data/", "is a folder; name a file in it, such as data/zoochat.sqlite3"),
        (".", r"is a folder; name a file in it, such as zoochat\.sqlite3"),
        ("/root/x" * 600, "cannot be opened: File name too long"),
        ("x" * 300, "cannot be opened: File name too long"),
    ],
)
def test_what_only_other_programs_take_for_a_path_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, message: str
) -> None:
    """Before, they made folders named `~` and `sqlite:`, or a store that was empty for each connection."""
    monkeypatch.setenv("SQLITE_PATH", value)

    with pytest.raises(ConfigError) as refusal:
        load_settings()
    assert re.fullmatch(rf"SQLITE_PATH: {message} \(set in the environment\)", str(refusal.value))


@pytest.mark.parametrize("value", ["~/zoo.db", "~/data/100%/zoo.db"])
def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str) -> None:
    """A shell replaces it, a file of settings does not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SQLITE_PATH", value)

    assert load_settings().sqlite_path == tmp_path / value[2:]
