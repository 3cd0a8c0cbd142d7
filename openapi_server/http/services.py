"""The services that handlers use."""

from __future__ import annotations

from dataclasses import dataclass, field

from openapi_server.accounts.logins import AccountService
from openapi_server.config import Settings
from openapi_server.engine.turn_engine import TurnEngine
from openapi_server.http.concurrency_limit import PendingTurns, WaitingRequests
from openapi_server.http.rate_limits import RateLimits
from openapi_server.instruments import Instruments
from openapi_server.knowledge.animal_admin import AnimalAdmin
from openapi_server.knowledge.drafts import DraftAdmin
from openapi_server.moderation.rule_admin import RuleAdmin
from openapi_server.protocols import (
    AuditTrail,
    Clock,
    CreditStore,
    EventLog,
    Knowledge,
    Moderator,
    PersonalDataStore,
    Provider,
    ReplyModerator,
    RequestStore,
    Store,
)
from openapi_server.storage.probe import StoreProbe
from openapi_server.telemetry.metrics import PrometheusMetrics


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running server.

    `provider` answers visitors; `offline_provider` answers in the keepers' own words, for previews of drafts.
    `started_s` is the monotonic time of the start, in seconds. `metrics` renders the metrics page; None: METRICS=off.
    """

    settings: Settings
    clock: Clock
    store: Store
    store_probe: StoreProbe
    event_log: EventLog
    knowledge: Knowledge
    animal_admin: AnimalAdmin
    drafts: DraftAdmin
    offline_provider: Provider
    moderator: Moderator
    reply_moderator: ReplyModerator
    rule_admin: RuleAdmin
    provider: Provider
    engine: TurnEngine
    accounts: AccountService
    credits: CreditStore
    personal_data: PersonalDataStore
    audit: AuditTrail
    requests: RequestStore
    rate_limits: RateLimits
    pending_turns: PendingTurns
    started_s: float
    instruments: Instruments = field(default_factory=Instruments)
    metrics: PrometheusMetrics | None = None
    waiting_requests: WaitingRequests = field(default_factory=WaitingRequests)
