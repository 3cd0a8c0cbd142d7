"""The IP address of a request's client, and which addresses count as one.

`proxies` has replaced a proxy's address before.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network

from starlette.types import Scope


def get_client_address(scope: Scope) -> str:
    """The address, or "unknown" where the connection has none."""
    address: str = (scope.get("client") or ("unknown", 0))[0]
    return address


@lru_cache(maxsize=4096)
def group_address(address: str) -> str:
    """The address as it is counted: whoever has one IPv6 address has the 64 bits of its network.

    >>> group_address("::ffff:192.0.2.7"), group_address("2001:db8:1:2:3::4"), group_address("unknown")
    ('192.0.2.7', '2001:db8:1:2::', 'unknown')
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, 64), strict=False).network_address)
