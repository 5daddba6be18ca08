"""URLs of private hosts: refused when they are set if their text shows it."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instances.outbound import ssrf_guard
from tests.instances.outbound.addresses import PRIVATE, PUBLIC, SPELLINGS

pytestmark = pytest.mark.any_database


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
