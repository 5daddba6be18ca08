"""Which network an address belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address


def is_within(address: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether a peer's address is in one of the networks; an IPv4 address is one in its IPv6 spelling, too."""
    try:
        peer = ip_address(address)
    except ValueError:
        return False
    if isinstance(peer, IPv6Address) and peer.ipv4_mapped:
        peer = peer.ipv4_mapped
    return any(peer in network for network in networks)
