"""Receivers that answer with a redirect: it is a failure, unless followRedirects has it followed once."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_network

import pytest

from realtime.delivery.transports.base import Result
from tests.realtime.delivery.transports.raw_receiver import BODY, OK, PATIENCE, endpoint, outgoing, send, silent

pytestmark = pytest.mark.any_database


@pytest.fixture
def resolve_to(monkeypatch):
    """Let DNS have one address for every name."""

    def resolve_to(address):
        def getaddrinfo(host, port, *_args, **_options):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return resolve_to


def redirect(location, status=302):
    return f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 5\r\n\r\nmoved".encode()


def then(receiver, first, second):
    """Let the receiver answer POST by `first`, and GET by `second`."""

    async def respond(reader, writer):
        writer.write(first if receiver.requests[-1].method == "POST" else second)
        await writer.drain()

    receiver.response = respond


@pytest.mark.parametrize("status", [302, 303])
async def test_it_is_not_followed_and_the_error_names_the_option(webhook, receiver, status):
    receiver.response = redirect("/other", status)
    for options in ({}, {"followRedirects": False}):
        outcome = await send(webhook, receiver, **options)
        assert (outcome.result, outcome.status, outcome.excerpt) == (Result.RETRY, status, "moved")
        assert outcome.error == (
            "The answer is a redirect, which is not followed: the endpoint's option followRedirects follows a "
            f"{status} once, by GET"
        )
    assert [request.method for request in receiver.requests] == ["POST", "POST"]


@pytest.mark.parametrize("status", [300, 301, 304, 305, 307, 308])
async def test_any_other_is_never_followed(webhook, receiver, status):
    receiver.response = redirect("/other", status) if status != 304 else b"HTTP/1.1 304 X\r\n\r\n"
    outcome = await send(webhook, receiver, followRedirects=True)
    assert (outcome.result, outcome.status) == (Result.RETRY, status)
    assert outcome.error.endswith(f"a {status} never is, so give the endpoint the URL that it leads to")
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [302, 303])
@pytest.mark.parametrize("location", ["/done?a=%2Fb", "done?a=%2Fb", "{origin}/done?a=%2Fb#part"])
async def test_it_is_followed_by_a_bare_get_whose_success_counts(webhook, receiver, status, location):
    origin = receiver.url.removesuffix("/hook")
    then(receiver, redirect(location.format(origin=origin), status), OK)
    secrets = {"headers": {"Authorization": "Bearer secret", "X-Key": "k", "jwt_key": "j"}, "signing": []}

    outcome = await send(webhook, receiver, secrets=secrets, followRedirects=True)

    assert (outcome.result, outcome.status, outcome.error, outcome.excerpt) == (Result.DELIVERED, 200, "", "")
    post, get = receiver.requests
    assert (post.method, post.body) == ("POST", BODY)
    assert (get.method, get.path, get.body) == ("GET", "/done?a=%2Fb", b"")
    assert set(get.headers) == {"host", "accept", "accept-encoding", "user-agent"}


async def test_cookies_are_not_kept(webhook, receiver):
    first = redirect("/done").replace(b"Location", b"Set-Cookie: a=b\r\nLocation")
    then(receiver, first, OK)
    for _ in range(2):
        assert (await send(webhook, receiver, followRedirects=True)).result is Result.DELIVERED
    assert not any("cookie" in request.headers for request in receiver.requests)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (redirect("/again"), "is a redirect, too"),
        (redirect("/again", 301), "is a redirect, too"),
        (b"HTTP/1.1 404 X\r\nContent-Length: 6\r\n\r\nsecret", "has the status 404"),
        (b"HTTP/1.1 410 X\r\nContent-Length: 6\r\n\r\nsecret", "has the status 410"),
        (b"HTTP/1.1 400 X\r\nContent-Length: 6\r\n\r\nsecret", "has the status 400"),
        (b"HTTP/1.1 500 X\r\nContent-Length: 6\r\n\r\nsecret", "has the status 500"),
        (b"no HTTP", "following it failed. The answer is not HTTP"),
        (b"", "following it failed. The connection broke before there was an answer"),
    ],
)
async def test_anything_else_than_a_success_is_retried_and_not_shown(webhook, receiver, second, said):
    then(receiver, redirect("/done"), second)
    outcome = await send(webhook, receiver, followRedirects=True)
    assert (outcome.result, outcome.status, outcome.excerpt) == (Result.RETRY, 302, "moved")
    assert said in outcome.error
    assert [request.path for request in receiver.requests if request.method == "POST"] == ["/hook"]
    assert {request.path for request in receiver.requests if request.method == "GET"} == {"/done"}


@pytest.mark.parametrize("second", [b"HTTP/1.1 204 X\r\n\r\nbody", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_only_the_head_of_the_second_answer_is_read(webhook, receiver, second):
    then(receiver, redirect("/done"), second)
    assert (await send(webhook, receiver, followRedirects=True)).result is Result.DELIVERED


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("ftp://example.com/", "must begin with http:// or https://"),
        ("javascript:alert(1)", "must begin with http:// or https://"),
        ("http://user:password@example.com/", "holds a user name or password"),
        ("http://10.0.0.1/", "is not public"),
        ("https://169.254.169.254/latest/meta-data", "is not public"),
        ("https://[::1]/", "is not public"),
        ("https://0x7f.1/", "must be written in full"),
        ("http://[::1/", "is not valid"),
        ("https://example.com/" + "a" * 3000, "longer than"),
        ("", "has no Location"),
    ],
)
async def test_a_url_that_an_endpoint_could_not_have_is_not_followed(webhook, receiver, location, said):
    receiver.response = redirect(location)
    outcome = await send(webhook, receiver, followRedirects=True)
    assert outcome.result is Result.RETRY
    assert outcome.error.startswith("The answer is a redirect, and following it failed. ")
    assert said in outcome.error
    assert "password@" not in outcome.error
    assert len(receiver.requests) == 1


async def test_http_is_followed_to_allowed_networks_alone(webhook, receiver, settings, resolve_to):
    """A public host is asked for by https: what a stranger on the way answers must not count."""
    resolve_to("93.184.215.14")
    receiver.response = redirect("http://example.com/done")
    outcome = await send(webhook, receiver, followRedirects=True)
    assert outcome.error.endswith("The URL is http, which is for hosts in WEBHOOK_ALLOWED_NETWORKS alone")
    resolve_to("10.1.2.3")
    receiver.response = redirect("http://example.net/done")
    outcome = await send(webhook, receiver, followRedirects=True)
    assert "The URL leads to an address that is not public: the operator can" in outcome.error
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8"), ip_network("::1")]
    resolve_to("127.0.0.1")
    then(receiver, redirect(f"http://example.org:{receiver.port}/done"), OK)
    assert (await send(webhook, receiver, followRedirects=True)).result is Result.DELIVERED


async def test_a_name_that_resolves_to_a_private_address_is_not_followed(webhook, receiver, resolve_to):
    resolve_to("10.1.2.3")
    receiver.response = redirect("https://example.com/done")
    outcome = await send(webhook, receiver, followRedirects=True)
    assert "The URL leads to an address that is not public: the operator can" in outcome.error


async def test_the_operators_own_url_gives_no_right_to_private_addresses(webhook, receiver, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    then(receiver, redirect("/done"), OK)
    outcome = await webhook.send(outgoing(), endpoint(receiver.url, id=0, followRedirects=True))
    assert outcome.result is Result.RETRY
    assert [request.method for request in receiver.requests] == ["POST"]


async def test_one_timeout_covers_both_requests(webhook, receiver, settings):
    settings.WEBHOOK_REQUEST_TIMEOUT_MS = 300

    async def respond(reader, writer):
        if receiver.requests[-1].method == "POST":
            writer.write(redirect("/done"))
            await writer.drain()
        else:
            await silent()(reader, writer)

    receiver.response = respond
    outcome = await send(webhook, receiver, followRedirects=True)
    assert (outcome.result, outcome.status) == (Result.RETRY, 302)
    assert outcome.error.endswith("following it failed. There was no answer within 0.3 seconds")
    assert await receiver.is_disconnected()


async def test_a_redirect_before_the_event_is_sent_is_not_followed(webhook):
    """As a success does not count then: the receiver may not have read the event."""
    requests = []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        requests.append(head.split(b" ")[0])
        writer.write(redirect("/done") if len(requests) == 1 else OK)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=65536)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with asyncio.timeout(PATIENCE):
        outcome = await webhook.send(outgoing(b"x" * 50_000_000), endpoint(url, id=0, followRedirects=True))
    assert outcome.result is Result.RETRY
    assert requests == [b"POST"]
    server.close()
    await server.wait_closed()
