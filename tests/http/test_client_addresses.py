"""Which IP addresses count as one."""

from __future__ import annotations

from openapi_server.http.client_addresses import group_address


def test_an_ipv6_caller_is_its_network() -> None:
    """Whoever has one address has 2^64 of them."""
    assert group_address("2001:db8::1") == group_address("2001:db8::ffff:1")
    assert group_address("2001:db8:0:1::1") != group_address("2001:db8::1")
    assert group_address("::ffff:192.0.2.1") == group_address("192.0.2.1")
