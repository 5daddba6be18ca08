"""URLs of private hosts: refused when they are set if their text shows it, and always when a connection is made."""

import asyncio
import socket
from ipaddress import ip_network

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from instances.outbound import ssrf_guard

pytestmark = pytest.mark.any_database

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:0:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:0808:0808::1",
    "2a00:1450::5efe:10.0.0.1",
    "2a00:1450::200:5efe:127.0.0.1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%lo",
    "2a00:1450::1%lo",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.1",
    "198.20.0.1",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2a00:1450:4001:80e::200e",
    "2a00:1450::5efe:8.8.8.8",
    "2606:4700:4700::1111",
]

#: Spellings that hide a private address from a careless check; {port} is that of a server on 127.0.0.1.
SPELLINGS = [
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.1:{port}/",
    "http://0x7f.0x0.0x0.0x1:{port}/",
    "http://0X7F.0.0.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://0177.1:{port}/",
    "http://127.0.0.01:{port}/",
    "http://127.0.0.0x1:{port}/",
    "http://4429185025:{port}/",
    "http://0:{port}/",
    "http://0.0.0.0:{port}/",
    "http://00:{port}/",
    "http://[::1]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://\uff11\uff12\uff17.\uff10.\uff10.\uff11:{port}/",
    "http://127\u30020\u30020\u30021:{port}/",
    "http://127\uff0e0\uff0e0\uff0e1:{port}/",
    "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    "http://127%2e0%2e0%2e1:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://a.localhost:{port}/",
    "http://\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54:{port}/",
    "http://localhost.localdomain:{port}/",
    "http://ip6-localhost:{port}/",
    "http://metadata.google.internal/",
    "http://router.local/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://100.100.100.200/latest/meta-data/",
    "http://user:password@127.0.0.1:{port}/",
    "http://example.com@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@example.com/",
    "http://127.0.0.1:{port}#@example.com/",
    "http://127.0.0.1:{port}?@example.com/",
    "HTTP://127.0.0.1:{port}/",
]


@pytest.fixture(autouse=True)
def no_network_is_allowed(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = []


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_not_public(address):
    assert not ssrf_guard.is_public(address)
    assert not ssrf_guard.is_allowed(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_public(address):
    assert ssrf_guard.is_public(address)
    assert ssrf_guard.is_allowed(address)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "2130706433", "0x7f000001", "127.0.0.01", "1.1.1.1 "])
def test_text_that_is_no_address_is_not_public(text):
    assert not ssrf_guard.is_public(text)


@given(st.ip_addresses())
def test_no_address_that_python_calls_private_is_public(address):
    if ssrf_guard.is_public(address):
        assert not any((address.is_loopback, address.is_link_local, address.is_multicast, address.is_unspecified))
        mapped = getattr(address, "ipv4_mapped", None)
        assert not (mapped or address).is_private


def test_allowed_networks_are_allowed_in_each_spelling(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("10.1.0.0/16"), ip_network("fd00:1::/32")]
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd00:1::1"):
        assert ssrf_guard.is_allowed(address)
    for address in ("10.2.0.1", "127.0.0.1", "::ffff:10.2.0.1", "fd00:2::1", "::1"):
        assert not ssrf_guard.is_allowed(address)


# Setting a URL


@pytest.mark.parametrize("url", SPELLINGS)
def test_a_url_of_a_private_host_is_refused_in_each_spelling(url):
    with pytest.raises(ValueError, match="URL"):
        ssrf_guard.check_url(url.format(port=8080))


@pytest.mark.parametrize("address", PRIVATE)
def test_a_url_with_a_private_address_is_refused(address):
    host = f"[{address.replace('%', '%25')}]" if ":" in address else address
    with pytest.raises(ValueError, match="URL"):
        ssrf_guard.check_url(f"https://{host}/hook")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "vazio",
        "example.com/hook",
        "//example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "unix:///run/x.sock",
        "http:example.com",
        "http:///hook",
        "http://",
        "http://:8080/",
        "http://?x",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:-1/",
        "http://example.com:x/",
        "http://example.com:+80/",
        "http://example.com:8_0/",
        "http://example.com:\uff18\uff10/",
        "http://[2606:4700:4700::1111]:+80/",
        "http://example.com/a b",
        " http://example.com/",
        "http://example.com/\n",
        "http://example.com/\x00",
        "http://example.com\t/",
        "http://example.com/\u00a0",
        "http://example.com/\ud800",
        "http://exam\u200bple.com/",
        "http://exam ple.com/",
        "http://a..b/",
        "http://.a/",
        "http://-a.com/",
        "http://a-.com/",
        "http://a,b/",
        "http://[::1/",
        "http://::1/",
        "http://[1.2.3.4]/",
        "http://[example.com]/",
        "http://[v1.a]/",
        "http://1.2.3/",
        "http://1.2.3.4.5/",
        "http://256.1.1.1/",
        "http://example.256/",
        f"http://{'a' * 64}.com/",
        f"http://{'a.' * 127}com/",
        "http://example.com/" + "a" * 2048,
        "https://user:password@example.com/",
        "https://user@example.com/",
    ],
)
def test_an_invalid_url_is_refused(url):
    with pytest.raises(ValueError, match="URL"):
        ssrf_guard.check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://hook.example.com/in",
        "http://hook.example.com:8080/in?token=a%20b&c=d",
        "HTTPS://Hook.Example.COM",
        "https://hook.example.com./in",
        "https://hook.example.com/São João".replace(" ", "%20"),
        "https://münchen.example/",
        "https://日本.example/webhook",
        "https://my_host.example.com/",
        "https://n8n:5678/webhook/7d9f",
        "https://1.1.1.1/hook",
        "https://[2606:4700:4700::1111]:8443/hook",
        "https://[2606:4700:4700::1111]/hook",
        "https://hook.example.com:/in",
        "https://example.com/a@b",
        "https://example.com/?x={y}|z",
        "https://localhost.example.com/",
        "https://internal.example.com/",
        "https://3com.com/",
        "https://0xf00d.example/",
    ],
)
def test_a_public_url_can_be_set(url):
    ssrf_guard.check_url(url)


def test_private_names_and_addresses_can_be_set_where_networks_are_allowed(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    ssrf_guard.check_url("http://127.0.0.1:8080/")
    ssrf_guard.check_url("http://localhost:8080/")
    ssrf_guard.check_url("http://n8n.internal/")
    with pytest.raises(ValueError, match="not public"):
        ssrf_guard.check_url("http://10.0.0.1/")


@given(st.text())
def test_any_text_is_accepted_or_refused_with_a_sentence(text):
    for url in (text, f"http://{text}", f"https://example.com/{text}"):
        try:
            ssrf_guard.check_url(url)
        except ValueError as error:
            if not str(error).startswith("The "):
                raise


# Connecting


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


async def test_the_addresses_of_a_name_are_limited(names):
    names["crowd.example.com"] = [f"10.0.{number}.1" for number in range(200)]
    found = await ssrf_guard.Resolver().resolve("crowd.example.com", 80)
    assert len(found) == ssrf_guard.MAX_ADDRESSES


async def test_a_name_that_dns_cannot_hold_is_not_found():
    with pytest.raises(OSError, match="not known"):
        await ssrf_guard.Resolver().resolve("a" * 70 + ".example.com", 80)
