"""Where a request comes from."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from django.conf import settings


def is_within(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether a peer's address is in one of the networks; an IPv4 address is one in its IPv6 spelling, too."""
    try:
        peer = ip_address(address)
    except ValueError:
        return False
    if isinstance(peer, IPv6Address) and peer.ipv4_mapped:
        peer = peer.ipv4_mapped
    return any(peer in network for network in networks)


def client_address(peer: str, forwarded: str) -> str:
    """Who sent a request: the TCP peer or, behind one of TRUSTED_PROXIES, whom the proxies name in X-Forwarded-For.

    Each proxy adds whom it heard from at the end, so the last one that is no proxy of ours is the client: what stands
    before it may be invented.
    """
    hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
    address = peer
    while hops and is_within(address, settings.TRUSTED_PROXIES):
        address = hops.pop()
    return address
