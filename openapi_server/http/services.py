"""What a handler may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from openapi_server.accounts.accounts import Accounts
from openapi_server.config import Settings
from openapi_server.engine.turn_engine import TurnEngine
from openapi_server.knowledge.admin.animal_admin import Keepers
from openapi_server.knowledge.admin.drafts import Drafts
from openapi_server.moderation.admin.rule_admin import RuleKeeping
from openapi_server.protocols import (
    AuditTrail,
    Clock,
    CreditStore,
    EventLog,
    Knowledge,
    Moderator,
    PrivacyStore,
    Provider,
    ReplyModerator,
    Store,
)


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running server. `keepers_voice` speaks in the keepers' own words, whoever speaks to visitors."""

    settings: Settings
    clock: Clock
    store: Store
    event_log: EventLog
    knowledge: Knowledge
    keepers: Keepers
    drafts: Drafts
    keepers_voice: Provider
    moderator: Moderator
    reply_moderator: ReplyModerator
    rules: RuleKeeping
    provider: Provider
    engine: TurnEngine
    accounts: Accounts
    credits: CreditStore
    privacy: PrivacyStore
    audit: AuditTrail
    started_s: float
