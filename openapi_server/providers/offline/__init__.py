"""The voice that needs no model: it speaks in the keepers' own words, so it cannot say anything they did not write."""

from openapi_server.providers.offline.provider import OfflineProvider

__all__ = ["OfflineProvider"]
