"""The server's state as JSON: our own form, and that of health checks (draft-inadarei-api-health-check-06)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from openapi_server.protocols import ProviderState
from openapi_server.wire.timestamps import format_timestamp

HEALTH_JSON = "application/health+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHealth:
    """What the server knows of its parts. `store_failure`: why the store cannot be written to, None when it can."""

    version: str
    at: datetime
    uptime_s: int
    is_draining: bool
    running_turns: int
    readers: int
    store_failure: str | None
    model: str
    provider: ProviderState
    animals: int

    @property
    def is_ready(self) -> bool:
        """Whether new turns are accepted and stored."""
        return self.store_failure is None and not self.is_draining

    @property
    def is_healthy(self) -> bool:
        return self.store_failure is None and self.provider.is_up


def encode_health(health: ServerHealth) -> dict[str, object]:
    """The body of `GET /system_health`."""
    return {
        "status": "draining" if health.is_draining else "healthy" if health.is_healthy else "degraded",
        "version": health.version,
        "timestamp": format_timestamp(health.at),
        "uptimeSeconds": health.uptime_s,
        "turns": {"running": health.running_turns, "readers": health.readers},
        "parts": {
            "store": {
                "status": "up" if health.store_failure is None else "down",
                "detail": health.store_failure or "can be written to",
            },
            "provider": _encode_provider(health),
            "knowledge": {"status": "up", "detail": f"{health.animals} animals"},
        },
    }


def _encode_provider(health: ServerHealth) -> dict[str, object]:
    state = health.provider
    encoded: dict[str, object] = {
        "status": "up" if state.is_up else "down",
        "detail": health.model if state.is_up else f"{health.model}: {state.failure}; the offline provider answers",
    }
    return encoded if state.at is None else encoded | {"lastTurnAt": format_timestamp(state.at)}


def encode_health_json(health: ServerHealth) -> dict[str, object]:
    """The same as `application/health+json`. `fail`: turns are refused; `warn`: only the offline provider answers."""
    now = format_timestamp(health.at)
    provider: dict[str, object] = {
        "componentId": health.model,
        "componentType": "component",
        "status": "pass" if health.provider.is_up else "warn",
        "time": now if health.provider.at is None else format_timestamp(health.provider.at),
    }
    store: dict[str, object] = {
        "componentType": "datastore",
        "status": "pass" if health.store_failure is None else "fail",
        "time": now,
    }
    if health.provider.failure is not None:
        provider["output"] = health.provider.failure
    if health.store_failure is not None:
        store["output"] = health.store_failure
    return {
        "status": "fail" if not health.is_ready else "pass" if health.is_healthy else "warn",
        "version": health.version.partition(".")[0],
        "releaseId": health.version,
        "description": "Zoo chat",
        "notes": ["The server is about to restart."] if health.is_draining else [],
        "checks": {
            "store:writability": [store],
            "provider:replies": [provider],
            "knowledge:animals": [_measure("component", health.animals, "animals", now)],
            "turns:running": [_measure("system", health.running_turns, "turns", now)],
            "turns:readers": [_measure("system", health.readers, "readers", now)],
            "uptime": [_measure("system", health.uptime_s, "s", now)],
        },
    }


def _measure(component_type: str, value: int, unit: str, at: str) -> dict[str, object]:
    return {
        "componentType": component_type,
        "observedValue": value,
        "observedUnit": unit,
        "status": "pass",
        "time": at,
    }
