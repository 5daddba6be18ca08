"""Connections to private hosts: blocked by each address, whatever the URL and DNS say."""

import asyncio
import socket
from ipaddress import ip_network

import aiohttp
import pytest
from aiohttp import web

from instances.outbound import ssrf_guard
from tests.instances.outbound.addresses import PRIVATE, SPELLINGS

pytestmark = pytest.mark.any_database


@pytest.fixture
async def private_server():
    """A server on loopback that must not be reached: its port, and the requests that it received."""
    requests = []

    async def handle(request):
        requests.append(str(request.url))
        return web.Response(text="secret")

    server = web.Server(handle)
    runner = web.ServerRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield port, requests
    await runner.cleanup()


@pytest.fixture
def names(monkeypatch):
    """DNS records of this test, by name; numeric hosts are parsed as the system parses them."""
    records = {}
    system_getaddrinfo = socket.getaddrinfo

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
        try:
            return system_getaddrinfo(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
        except socket.gaierror:
            if host not in records and "*" not in records:
                raise
        addresses = records.get(host) or records["*"]
        addresses = addresses() if callable(addresses) else addresses
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return records


async def post(url):
    async with (
        aiohttp.ClientSession(connector=ssrf_guard.connector()) as session,
        asyncio.timeout(10),
        session.post(url, data=b"{}", allow_redirects=False) as response,
    ):
        return await response.text()


@pytest.mark.parametrize("url", SPELLINGS)
async def test_no_private_host_is_reached_in_any_spelling(private_server, names, url):
    port, requests = private_server
    names["*"] = ["127.0.0.1"]
    with pytest.raises((aiohttp.ClientError, ValueError)):
        await post(url.format(port=port))
    assert requests == []


@pytest.mark.parametrize("address", [address for address in PRIVATE if "%" not in address])
async def test_a_name_that_resolves_to_a_private_address_is_blocked(names, address):
    names["rebound.example.com"] = [address]
    with pytest.raises(aiohttp.ClientConnectorError) as blocked:
        await post("http://rebound.example.com/")
    assert isinstance(blocked.value.os_error, ssrf_guard.BlockedAddress)
    assert address not in str(blocked.value.os_error)


async def test_a_name_that_resolves_to_another_address_later_is_blocked(private_server, names):
    port, requests = private_server
    responses = [["8.8.8.8"], ["127.0.0.1"]]
    names["rebinding.example.com"] = lambda: responses.pop(0)
    assert ssrf_guard.is_allowed(socket.getaddrinfo("rebinding.example.com", port)[0][4][0])
    with pytest.raises(aiohttp.ClientConnectorError):
        await post(f"http://rebinding.example.com:{port}/")
    assert requests == []


async def test_only_the_allowed_addresses_of_a_name_are_connected_to(private_server, names, settings):
    port, requests = private_server
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.2")]
    names["mixed.example.com"] = ["127.0.0.1", "::1", "127.0.0.2"]
    with pytest.raises(aiohttp.ClientConnectorError):  # nothing listens at 127.0.0.2
        await post(f"http://mixed.example.com:{port}/")
    assert requests == []


async def test_an_allowed_network_is_reached_by_address_and_by_name(private_server, names, settings):
    port, requests = private_server
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    names["n8n.internal"] = ["10.0.0.1", "127.0.0.1"]
    assert await post(f"http://127.0.0.1:{port}/") == "secret"
    assert await post(f"http://n8n.internal:{port}/") == "secret"
    assert len(requests) == 2


@pytest.mark.parametrize("name", ["n8n", "evolution_api", "my_n8n-1", "host.docker.internal", "n8n.my_stack"])
async def test_the_name_of_a_container_is_reached_in_an_allowed_network(private_server, names, settings, name):
    port, requests = private_server
    names[name] = ["127.0.0.1"]
    with pytest.raises(aiohttp.ClientConnectorError):
        await post(f"http://{name}:{port}/webhook/x")
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    assert await post(f"http://{name}:{port}/webhook/x") == "secret"
    assert requests == [f"http://{name}:{port}/webhook/x"]


async def test_the_addresses_of_a_name_are_limited(names):
    names["crowd.example.com"] = [f"10.0.{number}.1" for number in range(200)]
    found = await ssrf_guard.Resolver().resolve("crowd.example.com", 80)
    assert len(found) == ssrf_guard.MAX_ADDRESSES


async def test_a_name_that_dns_cannot_hold_is_not_found():
    with pytest.raises(OSError, match="not known"):
        await ssrf_guard.Resolver().resolve("a" * 70 + ".example.com", 80)
