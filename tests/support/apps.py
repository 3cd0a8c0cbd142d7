"""Applications that tests use one after the other: making one takes a tenth of a second, and a thousand tests want one.

A shared application is the real one, made by `create_app`; only its services are those of the test that uses it now.
What it read of the settings while it was made decides who else may use it. State that it keeps between requests has to
be made anew for each test, in `_reset`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from connexion import FlaskApp

from openapi_server.app import create_app
from openapi_server.config import Settings
from openapi_server.http.arrival_order import ArrivalOrderMiddleware
from openapi_server.http.concurrency_limit import ConcurrencyLimitMiddleware, make_slots
from openapi_server.http.proxies import TrustedProxiesMiddleware
from openapi_server.http.services import Services


class Delegate:
    """Has the attributes of whatever the function returns at that moment."""

    def __init__(self, get: Callable[[], object]) -> None:
        self._get = get

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get(), name)


class RecordedSettings:
    """Settings that remember the values that were asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.values: dict[str, object] = {}

    def __getattr__(self, name: str) -> Any:
        self.values[name] = getattr(self._settings, name)
        return self.values[name]


class CurrentServices:
    """Stands in for the services of the test that uses the application now."""

    def __init__(self, services: Services) -> None:
        self.current = services
        # The only ones that the application keeps a reference to.
        self.accounts = Delegate(lambda: self.current.accounts)
        self.settings: object = Delegate(lambda: self.current.settings)
        self.instruments = Delegate(lambda: self.current.instruments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.current, name)


class SharedApp:
    """An application and its stand-in services."""

    def __init__(self, services: Services) -> None:
        self._services = CurrentServices(services)
        self._recorded = RecordedSettings(services.settings)
        settings, self._services.settings = self._services.settings, self._recorded
        self.app: FlaskApp = create_app(cast(Services, self._services))
        # Otherwise made at the first request, when nobody records the settings any more.
        middleware = self.app.middleware
        middleware.app, middleware.middleware_stack = middleware._build_middleware_stack()
        self._services.settings = settings

    def fits(self, settings: Settings) -> bool:
        return all(getattr(settings, name) == value for name, value in self._recorded.values.items())

    def use(self, services: Services) -> None:
        self._services.current = services
        self._reset()

    def _reset(self) -> None:
        for middleware in self.app.middleware.middleware_stack:
            if isinstance(middleware, ConcurrencyLimitMiddleware):
                # Requests of a test that was cut short may still hold slots.
                middleware._starts, middleware._others = make_slots(self._services.current.settings.requests_per_round)
                middleware._waiting = self._services.current.waiting_requests
                middleware._pending = self._services.current.pending_turns
            elif isinstance(middleware, ArrivalOrderMiddleware):
                middleware._pending = self._services.current.pending_turns
            elif isinstance(middleware, TrustedProxiesMiddleware):
                middleware._has_warned = False


_free_apps: list[SharedApp] = []


def borrow_app(services: Services) -> SharedApp:
    """An application over the services, which nobody else uses until it is given back."""
    found = next((app for app in _free_apps if app.fits(services.settings)), None)
    if found is None:
        return SharedApp(services)
    _free_apps.remove(found)
    found.use(services)
    return found


def give_back(app: SharedApp) -> None:
    _free_apps.append(app)
