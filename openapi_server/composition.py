"""Composition: which implementation stands behind each protocol, opened at the start and closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from openapi_server.accounts.accounts import Accounts
from openapi_server.accounts.demo import add_demo_users, demo_users_in
from openapi_server.accounts.passwords import Passwords
from openapi_server.accounts.tokens import AccessTokens
from openapi_server.clock import SystemClock
from openapi_server.config import ConfigError, Settings
from openapi_server.engine.leases import Leases
from openapi_server.engine.pipeline import Pipeline
from openapi_server.engine.turn_engine import Limits, TurnEngine
from openapi_server.engine.workers import new_worker
from openapi_server.event_logs.memory import MemoryEventLog
from openapi_server.interfaces import AccountStore, Clock, Provider
from openapi_server.knowledge.library import AnimalLibrary
from openapi_server.safety.moderator import RuleModerator
from openapi_server.services import Services
from openapi_server.stores.sqlite import SqliteStore
from openapi_server.stores.sqlite_accounts import SqliteAccounts
from openapi_server.stores.sqlite_credits import SqliteCredits

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_services(settings: Settings, provider: Provider | None = None) -> AsyncIterator[Services]:
    """Open every part, settle what an earlier process left behind, and close all in the opposite order.

    `provider` replaces the one that the settings name.
    """
    clock = SystemClock()
    library = AnimalLibrary.load()
    if library.animal(settings.default_animal) is None:
        raise ConfigError(f"DEFAULT_ANIMAL: no animal {settings.default_animal!r} lives in this zoo")
    provider = provider or _provider(settings)
    async with AsyncExitStack() as parts:
        parts.callback(library.close)
        store = await SqliteStore.open(settings.sqlite_path, clock)
        parts.push_async_callback(store.close)
        passwords = Passwords()
        parts.callback(passwords.close)
        accounts = await _open_accounts(SqliteAccounts(store.connections, clock), passwords, clock, settings)
        credit_store = SqliteCredits(store.connections, clock)
        event_log = MemoryEventLog(clock, replay_window_s=settings.replay_window_s, max_turns=settings.replay_max_turns)
        pipeline = Pipeline(provider, library, RuleModerator.load(), store, settings.stream_idle_timeout_s)
        leases = Leases(store, clock, new_worker(), settings.lease_s)
        limits = Limits(
            turn_deadline_s=settings.turn_deadline_s,
            orphan_grace_s=settings.orphan_grace_s,
            drain_s=settings.drain_timeout_s,
            session_ttl_s=settings.session_ttl_s,
        )
        engine = TurnEngine(pipeline, store, event_log, clock, leases, limits)
        parts.push_async_callback(engine.close)
        interrupted = await engine.open()
        log.info("services_open", animals=len(library.animals()), interrupted_turns=interrupted)
        yield Services(
            settings=settings,
            clock=clock,
            store=store,
            event_log=event_log,
            knowledge=library,
            provider=provider,
            engine=engine,
            accounts=accounts,
            credits=credit_store,
            started_s=clock.monotonic(),
        )


async def _open_accounts(store: AccountStore, passwords: Passwords, clock: Clock, settings: Settings) -> Accounts:
    """The accounts, with those for development or, in production, surely without."""
    if settings.has_demo_users:
        await add_demo_users(store, passwords, clock)
    elif settings.environment == "production" and (found := await demo_users_in(store)):
        raise ConfigError(
            f"SQLITE_PATH: the database there has accounts whose passwords everybody knows ({', '.join(found)}); "
            "give each a new one with `zoochat users reset-password NAME`, or use another database"
        )
    tokens = AccessTokens(settings.signing_key, settings.access_token_ttl_s, clock)
    return Accounts(store, passwords, tokens, clock, settings.refresh_token_ttl_s)


def _provider(settings: Settings) -> Provider:
    """The mind that the settings name; only its own module is imported, for some bring heavy libraries along."""
    match settings.provider:
        case "offline":
            from openapi_server.providers.offline import OfflineProvider

            return OfflineProvider(words_per_s=settings.offline_words_per_s, seed=settings.offline_seed)
