"""Keeps URLs that others supply (tenants, payloads, answers) from leading into our own network.

`check_url` refuses, when a URL is set, what can be seen in it. Where a name leads is known only when it is dialled, and
may change between two looks, so what protects is `connector`: it judges each address that a socket is about to be
connected to. WEBHOOK_ALLOWED_NETWORKS are let through. URLs from the environment are the operator's, and trusted.
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

MAX_URL = 2048

#: Of a name with more addresses than this the first ones are tried: an answer of DNS must not make us dial a crowd.
MAX_ADDRESSES = 6

# By IANA's registries of special-purpose addresses. The tables of `ipaddress` differ between versions of Python.
_NOT_PUBLIC_IPV4 = [
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16",  # public by number, but each machine at Azure has its host there
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
#: All that has been given out for the public; loopback, link-local, unique local, multicast and the rest lie outside.
_PUBLIC_IPV6 = ip_network("2000::/3")
_NOT_PUBLIC_IPV6 = [
    ip_network(network)
    for network in (
        "2001::/23",  # protocols, Teredo among them, whose packets end at an IPv4 address inside
        "2001:db8::/32",
        "2002::/16",  # 6to4, the same
        "3fff::/20",
    )
]
#: The IPv4 address is in the last 32 bits, and is where packets go.
_CARRIES_IPV4 = [ip_network("::ffff:0:0/96"), ip_network("64:ff9b::/96")]
_ISATAP = (0x00005EFE, 0x02005EFE)

#: Names that are reserved for what is near (RFC 6761, 6762 and 8375, ICANN's .internal).
_LOCAL_NAMES = re.compile(
    r"(?:.*\.)?(?:localhost|localdomain|local|internal|home\.arpa)|ip6-localhost|ip6-loopback", re.ASCII
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
#: What no URL holds unescaped, and what parsers understand in different ways.
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\\\ud800-\udfff\u2028\u2029]")


class BlockedAddress(OSError):
    """Raised instead of a connection to an address that is not public."""

    def __init__(self) -> None:
        # nothing of the address, because what a name means inside is nobody's business
        super().__init__("The URL leads to an address that is not public")


# Addresses


def is_public(address: str | IPv4Address | IPv6Address) -> bool:
    """Whether packets to it go out to the internet, and nowhere else. What is no address is not public."""
    try:
        address = _meant(ip_address(address))
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return not _is_in(address, _NOT_PUBLIC_IPV4)
    if address.scope_id or address not in _PUBLIC_IPV6 or _is_in(address, _NOT_PUBLIC_IPV6):
        return False
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return is_public(_last_32_bits(address))
    return True


def may_be_dialled(address: str) -> bool:
    """Whether a URL of somebody else may lead there."""
    if is_public(address):
        return True
    try:
        meant = _meant(ip_address(address))
    except ValueError:
        return False
    return is_within(str(meant), settings.WEBHOOK_ALLOWED_NETWORKS)


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address) and not address.scope_id and _is_in(address, _CARRIES_IPV4):
        return _last_32_bits(address)
    return address


def _is_in(address: IPv4Address | IPv6Address, networks: Iterable[Any]) -> bool:
    return any(address in network for network in networks)


def _last_32_bits(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFFFFFF)


# URLs


def check_url(url: str) -> None:
    """Raises ValueError, with a sentence for whoever set the URL, when it is none that can be sent to.

    Nothing is looked up: a name that leads inside passes, and is refused when it is dialled.
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
    _, _, behind = authority.rpartition("]")
    if port == 0 or not re.fullmatch("[0-9]{0,5}", behind.partition(":")[2], re.ASCII):
        raise ValueError("The port of the URL must be a number from 1 to 65535")
    _check_host(host)


def _check_host(host: str) -> None:
    """`host` as it is dialled: in lower case and ASCII."""
    labels = host.removesuffix(".").split(".")
    if ":" in host or _NUMBER.fullmatch(labels[-1]):
        _check_literal(host)
        return
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("The host of the URL is no name of a host")
    if _LOCAL_NAMES.fullmatch(host.removesuffix(".")) and not settings.WEBHOOK_ALLOWED_NETWORKS:
        raise ValueError("The URL leads inside: only public hosts, and WEBHOOK_ALLOWED_NETWORKS, can be sent to")


def _check_literal(host: str) -> None:
    try:
        ip_address(host)
    except ValueError:
        # 127.1, 0x7f.1, 2130706433 …: some read them as an address, and not all as the same one
        raise ValueError("The address in the URL must be written in full, as in 192.0.2.1 or [2001:db8::1]") from None
    if not may_be_dialled(host):
        raise ValueError("The address in the URL is not public; WEBHOOK_ALLOWED_NETWORKS can allow it")


# Connections


def connector(kind: type[aiohttp.TCPConnector] = aiohttp.TCPConnector, **options: Any) -> aiohttp.TCPConnector:
    """For a session that calls URLs of others; `options` are aiohttp.TCPConnector's.

    An attempt to connect to what may not be dialled fails with aiohttp.ClientConnectorError, whose `os_error` is
    `BlockedAddress` if all addresses of the host were.
    """
    return kind(resolver=Resolver(), socket_factory=_socket, **options)


def trusting_connector(kind: type[aiohttp.TCPConnector] = aiohttp.TCPConnector, **options: Any) -> aiohttp.TCPConnector:
    """For a session that calls URLs of the environment, which may lead inside."""
    return kind(resolver=Resolver(), **options)


def _socket(info: tuple[Any, ...]) -> socket.socket:
    """The one place where each address passes, literal or looked up, right before it is dialled."""
    family, kind, protocol, _, address = info
    if not may_be_dialled(address[0]):
        raise BlockedAddress
    return socket.socket(family, kind, protocol)


class Resolver(AbstractResolver):
    """The system's, in a thread for each name that is looked up at the time."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            found = await _look_up(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except UnicodeError:  # a name that DNS cannot hold
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        return [
            ResolveResult(
                hostname=host, host=address[0], port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
            )
            for kind, _, protocol, _, address in found[:MAX_ADDRESSES]
        ]

    async def close(self) -> None:
        """There is nothing to close."""


async def _look_up(*args: Any, **options: Any) -> list[Any]:
    """socket.getaddrinfo.

    In a thread of a pool, names whose servers do not answer would hold up all others, and the end of the process.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def settle(found: list[Any] | None, error: Exception | None) -> None:
        if answer.cancelled():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found or [])

    def run() -> None:
        found, error = None, None
        try:
            found = socket.getaddrinfo(*args, **options)
        except Exception as failure:
            error = failure
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, found, error)

    threading.Thread(target=run, name="lookup", daemon=True).start()
    return await answer
