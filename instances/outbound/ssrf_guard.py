"""A guard against server-side request forgery: URLs of tenants, payloads and responses reach public hosts only.

https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html

`check_url` rejects a URL, when it is set, by its text alone. A host name is resolved only when a connection is made,
and may resolve differently each time. So the protection is `connector`, which checks each address right before a
socket connects to it. WEBHOOK_ALLOWED_NETWORKS are allowed. URLs from the environment are the operator's, and trusted.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from django.conf import settings
from yarl import URL

from instances.access.client_address import is_within

#: Characters of a URL.
MAX_URL = 2048

#: Addresses of a host name that are tried: a DNS response must not make this server connect to hundreds of hosts.
MAX_ADDRESSES = 6

# By IANA's registries of special-purpose addresses (https://www.iana.org/assignments/iana-ipv4-special-registry and
# iana-ipv6-special-registry). The tables of `ipaddress` differ between versions of Python.
_NOT_PUBLIC_IPV4 = [
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16",  # public by number, but Azure's platform address on each of its machines
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
#: Global unicast, all that IANA has assigned to it; loopback, link-local, unique local and multicast lie outside.
_PUBLIC_IPV6 = ip_network("2000::/3")
_NOT_PUBLIC_IPV6 = [
    ip_network(network)
    for network in (
        "2001::/23",  # protocol assignments, among them Teredo, which embeds an IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4, which embeds one too
        "3fff::/20",
    )
]
#: IPv6 networks whose last 32 bits are the IPv4 address that packets are sent to.
_EMBEDS_IPV4 = [ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96")]
#: The upper half of ISATAP's interface identifiers, whose lower half is an IPv4 address (RFC 5214, section 6.1).
_ISATAP = (0x00005EFE, 0x02005EFE)

#: Names that are reserved for local use (RFC 6761, 6762 and 8375, ICANN's .internal).
_LOCAL_NAMES = re.compile(
    r"(?:.*\.)?(?:localhost|localdomain|local|internal|home\.arpa)|ip6-localhost|ip6-loopback", re.ASCII
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
#: Characters that no URL holds unescaped, and that parsers interpret in different ways.
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\\\ud800-\udfff\u2028\u2029]")


#: What makes a private receiver reachable, as the end of a sentence.
ALLOW = "the operator can allow its network by WEBHOOK_ALLOWED_NETWORKS, such as 172.16.0.0/12 for containers of Docker"


class BlockedAddress(OSError):
    """Raised instead of a connection to an address that is not public."""

    def __init__(self) -> None:
        # without the address: what a name resolves to in our network is not the tenant's business
        super().__init__(f"The URL leads to an address that is not public: {ALLOW}")


class PlainTextAddress(BlockedAddress):
    """Raised instead of a connection without TLS to an address outside of WEBHOOK_ALLOWED_NETWORKS."""

    def __init__(self) -> None:
        OSError.__init__(self, "The URL is http, which is for hosts in WEBHOOK_ALLOWED_NETWORKS alone")


# Addresses


def is_public(address: str | IPv4Address | IPv6Address) -> bool:
    """Return whether packets to this address are sent to the internet alone; False for text that is no address."""
    try:
        address = _unmapped(ip_address(address))
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return not _is_in(address, _NOT_PUBLIC_IPV4)
    if address.scope_id or address not in _PUBLIC_IPV6 or _is_in(address, _NOT_PUBLIC_IPV6):
        return False
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return is_public(_last_32_bits(address))
    return True


def is_allowed(address: str) -> bool:
    """Return whether a URL from outside may connect to this address: it is public or in WEBHOOK_ALLOWED_NETWORKS."""
    return is_public(address) or is_in_allowed_network(address)


def is_in_allowed_network(address: str) -> bool:
    """Return whether an address is in WEBHOOK_ALLOWED_NETWORKS; False for text that is no address."""
    try:
        unmapped = _unmapped(ip_address(address))
    except ValueError:
        return False
    return is_within(str(unmapped), settings.WEBHOOK_ALLOWED_NETWORKS)


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address) and not address.scope_id and _is_in(address, _EMBEDS_IPV4):
        return _last_32_bits(address)
    return address


def _is_in(address: IPv4Address | IPv6Address, networks: Iterable[Any]) -> bool:
    return any(address in network for network in networks)


def _last_32_bits(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFFFFFF)


# URLs


def check_url(url: str) -> None:
    """Raise ValueError, with a message for the user, for a URL that nothing can or may be sent to.

    No name is resolved: a name of a private address passes, and is blocked when a connection is made.
    """
    if len(url) > MAX_URL:
        raise ValueError(f"The URL is longer than {MAX_URL} characters")
    if not re.match(r"https?://", url, re.IGNORECASE):
        raise ValueError("The URL must begin with http:// or https://")
    if _UNSAFE.search(url):
        raise ValueError("The URL holds spaces, control characters or backslashes")
    authority = re.split("[/?#]", url.split("://", 1)[1], maxsplit=1)[0]
    if "@" in authority:
        raise ValueError("The URL holds a user name or password: send them in an Authorization header")
    try:
        parsed = URL(url)
        host, port = parsed.raw_host, parsed.explicit_port
    except ValueError:
        raise ValueError("The URL is not valid") from None
    if not host:
        raise ValueError("The URL has no host")
    if "[" in authority and ":" not in host:
        raise ValueError("Brackets in the URL are for IPv6 addresses")
    _, _, rest = authority.rpartition("]")
    if port == 0 or not re.fullmatch("[0-9]{0,5}", rest.partition(":")[2], re.ASCII):
        raise ValueError("The port of the URL must be a number from 1 to 65535")
    _check_host(host)


def note(url: str) -> str:
    """Return what the host of a URL suggests that is missing for it to be reached; "" where it suggests nothing.

    No name is resolved here: that would tell a tenant what resolves in our network.
    """
    try:
        host = URL(url).raw_host or ""
    except ValueError:
        return ""
    if settings.WEBHOOK_ALLOWED_NETWORKS or not _LABEL.fullmatch(host.removesuffix(".")):
        return ""
    return f"{host} looks like a host of a private network, to which nothing is sent: {ALLOW}"


def _check_host(host: str) -> None:
    """Check a host as it is resolved: in lower case and ASCII."""
    labels = host.removesuffix(".").split(".")
    if ":" in host or _NUMBER.fullmatch(labels[-1]):
        _check_literal(host)
        return
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("The host of the URL is not a valid host name")
    if _LOCAL_NAMES.fullmatch(host.removesuffix(".")) and not settings.WEBHOOK_ALLOWED_NETWORKS:
        raise ValueError(f"The host of the URL is private: {ALLOW}")


def _check_literal(host: str) -> None:
    try:
        ip_address(host)
    except ValueError:
        # 127.1, 0x7f.1, 2130706433 …: some parsers read them as an address, and not all as the same address
        raise ValueError("The address in the URL must be written in full, as in 192.0.2.1 or [2001:db8::1]") from None
    if not is_allowed(host):
        raise ValueError(f"The address in the URL is not public: {ALLOW}")


# Connections


def connector(kind: type[aiohttp.TCPConnector] = aiohttp.TCPConnector, **options: Any) -> aiohttp.TCPConnector:
    """Return a connector for a session that requests URLs from outside; `options` are aiohttp.TCPConnector's.

    A connection to an address that is not allowed fails with aiohttp.ClientConnectorError. Its `os_error` is
    `BlockedAddress` if none of the host's addresses is allowed.
    """
    return kind(resolver=Resolver(), socket_factory=_socket, **options)


def plain_text_connector(
    kind: type[aiohttp.TCPConnector] = aiohttp.TCPConnector, **options: Any
) -> aiohttp.TCPConnector:
    """Return a connector for a session without TLS, which connects to WEBHOOK_ALLOWED_NETWORKS alone."""
    return kind(resolver=Resolver(), socket_factory=_plain_text_socket, **options)


def trusting_connector(kind: type[aiohttp.TCPConnector] = aiohttp.TCPConnector, **options: Any) -> aiohttp.TCPConnector:
    """Return a connector for a session that requests URLs from the environment, which may be private."""
    return kind(resolver=Resolver(), **options)


def _socket(info: tuple[Any, ...]) -> socket.socket:
    """Open a socket for an address; raises BlockedAddress.

    Every address passes here right before the connection, be it literal or resolved.
    """
    family, kind, protocol, _, address = info
    if not is_allowed(address[0]):
        raise BlockedAddress
    return socket.socket(family, kind, protocol)


def _plain_text_socket(info: tuple[Any, ...]) -> socket.socket:
    """Open a socket for an address, as `_socket` does; raises PlainTextAddress too."""
    if is_allowed(info[4][0]) and not is_in_allowed_network(info[4][0]):
        raise PlainTextAddress
    return _socket(info)


class Resolver(AbstractResolver):
    """The system's resolver, in a thread of its own for each name that is being resolved."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            found = await _getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except UnicodeError:  # a name that DNS cannot hold
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        return [
            ResolveResult(
                hostname=host, host=address[0], port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
            )
            for kind, _, protocol, _, address in found[:MAX_ADDRESSES]
        ]

    async def close(self) -> None:
        """Do nothing: the resolver holds nothing open."""


async def _getaddrinfo(*args: Any, **options: Any) -> list[Any]:
    """Run socket.getaddrinfo in a daemon thread of its own.

    In a pool of threads, names whose DNS servers do not respond would delay all others, and the exit of the process.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[list[Any]] = loop.create_future()

    def store(found: list[Any] | None, error: Exception | None) -> None:
        if result.cancelled():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(found or [])

    def run() -> None:
        found, error = None, None
        try:
            found = socket.getaddrinfo(*args, **options)
        except Exception as failure:
            error = failure
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(store, found, error)

    threading.Thread(target=run, name="lookup", daemon=True).start()
    return await result
