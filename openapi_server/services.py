"""What a handler may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from openapi_server.accounts.accounts import Accounts
from openapi_server.config import Settings
from openapi_server.engine.turn_engine import TurnEngine
from openapi_server.interfaces import Clock, CreditStore, EventLog, Knowledge, Provider, Store


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running server."""

    settings: Settings
    clock: Clock
    store: Store
    event_log: EventLog
    knowledge: Knowledge
    provider: Provider
    engine: TurnEngine
    accounts: Accounts
    credits: CreditStore
    started_s: float
