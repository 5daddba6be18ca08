"""Addresses of clients, behind reverse proxies too."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from django.conf import settings

from instances.bounds import PROXY_HOPS


def is_within(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Return whether an address is in one of the networks; an IPv4-mapped IPv6 address counts as IPv4."""
    try:
        peer = ip_address(address)
    except ValueError:
        return False
    if isinstance(peer, IPv6Address) and peer.ipv4_mapped:
        peer = peer.ipv4_mapped
    return any(peer in network for network in networks)


def client_address(peer: str, forwarded: str) -> str:
    """Return the client's address: the TCP peer or, behind TRUSTED_PROXIES, the one in X-Forwarded-For.

    Each proxy appends the address of its own peer. So the client is the last address that is not a trusted proxy:
    those before it may be invented. A hop that is no address tells nothing: the proxy that reports it counts.
    """
    hops = [hop.strip() for hop in forwarded.rsplit(",", PROXY_HOPS)[-PROXY_HOPS:] if hop.strip()]
    address = peer
    while hops and is_within(address, settings.TRUSTED_PROXIES) and (hop := _address(hops.pop())):
        address = hop
    return address


def _address(hop: str) -> str | None:
    """Return the address in a hop, which some proxies write with a port: `1.2.3.4:5678`, `[2001:db8::1]:5678`."""
    host = hop[1:].partition("]")[0] if hop.startswith("[") else hop.partition(":")[0] if hop.count(":") == 1 else hop
    try:
        return str(ip_address(host.partition("%")[0]))  # without an IPv6 zone, which may have any length
    except ValueError:
        return None
