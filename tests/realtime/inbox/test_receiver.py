"""What anybody may post to an inbox, and what not."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress

import pytest

from instances import bounds
from instances.outbound.webhook_secrets import new_secret
from tests.clients.staff import Staff
from tests.realtime.inbox.inboxes import Mine
from tests.server import Server

#: The dearest 64 KiB: each of their bytes has six characters in JSON.
DEAR = b"\x01" * bounds.INBOX_BYTES


@pytest.fixture
def staff(server):
    return Staff(server, is_superuser=True)


@pytest.fixture
def inbox(staff):
    return Mine(staff)


@pytest.fixture(scope="module")
def other(environment):
    """Another process of the same server, where few keys may be wrong."""
    process = Server(environment | {"LIMIT_WRONG_KEYS": "3", "LIMIT_WRONG_KEYS_PER_SECOND": "1"})
    process.start()
    yield process
    process.stop()


def raw(server, *parts: bytes) -> bytes:
    """Send bytes, and return the beginning of the response."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        with suppress(ConnectionError):  # a server that refuses early closes while more is sent
            for part in parts:
                connection.sendall(part)
        with suppress(ConnectionError):
            return connection.recv(65536)
        return b""


def head(inbox, *lines: str) -> bytes:
    return "\r\n".join([f"POST {inbox.path} HTTP/1.1", "Host: 127.0.0.1", *lines, "", ""]).encode()


def test_a_request_is_answered_200_empty_and_kept_as_it_came(inbox):
    body = '{"text": "<script>olá</script>", "n": 12345678901234567890}'
    response = inbox.post(body, Content_Type="application/json; charset=utf-8", X_Key="v1", Cookie="sessionid=secret")
    assert (response.status, response.body, response.headers["Content-Length"]) == (200, b"", "0")
    [row] = inbox.rows()
    assert (row["title"], row["size"], row["verdict"]) == ("application/json", len(body.encode()), "unsigned")
    assert (row["address"], row["path"], row["endpoint"]) == ("127.0.0.1", "", None)
    detail = inbox.detail(row)
    assert (detail["body"], detail["isUtf8"], detail["note"]) == (body, True, "")
    headers = dict(detail["headers"])
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["x-key"] == "v1"
    assert headers["cookie"] == "********"


def test_what_a_page_of_another_site_sends_shows_no_log_in_of_its_reader(inbox):
    inbox.post(b"a=b", Origin="https://elsewhere.example", Authorization="Basic YTpi", Cookie="sessionid=secret")
    inbox.post(b"a=b", Authorization="Bearer of-the-sender")
    first, second = (dict(inbox.detail(row)["headers"]) for row in inbox.rows())
    assert (first["authorization"], first["cookie"]) == ("********", "********")
    assert second["authorization"] == "Bearer of-the-sender"


def test_the_path_behind_the_id_and_the_query_are_kept(inbox, server):
    assert server.post(f"{inbox.path}/messages-upsert?token=x", b"", key=None).status == 200
    [row] = inbox.rows()
    assert (row["path"], row["size"]) == ("/messages-upsert?token=x", 0)


def test_bytes_that_are_no_text_are_shown_as_far_as_they_are(inbox):
    inbox.post(b"\xff\xfe\x00png", Content_Type="image/png")
    inbox.post("\ufffd was sent so".encode())
    first, second = map(inbox.detail, inbox.rows())
    assert (first["body"], first["isUtf8"]) == ("\ufffd\ufffd\x00png", False)
    assert second["isUtf8"] is True


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(inbox, server, method):
    response = server.request(method, inbox.path, key=None, headers={"Origin": "https://elsewhere.example"})
    assert (response.status, response.headers["Allow"]) == (405, "POST")
    assert inbox.rows() == []


def test_no_page_of_another_origin_may_read_an_answer(inbox, server):
    origin = {"Origin": "https://elsewhere.example"}
    asked = origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-key"}
    preflight = server.request("OPTIONS", inbox.path, key=None, headers=asked)
    posted = server.request("POST", inbox.path, b"{}", key=None, headers=origin)
    for response in (preflight, posted):
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
    assert (preflight.status, posted.status) == (405, 200)


def test_a_host_that_is_not_this_server_is_refused(inbox, server):
    response = server.request("POST", inbox.path, b"{}", key=None, headers={"Host": "elsewhere.example"})
    assert response.status == 400
    assert inbox.rows() == []


def test_a_wrong_id_is_answered_404_and_guessing_is_slowed(inbox, other):
    wrong = [f"/inbox/{secrets.token_urlsafe(16)}", "/inbox/", "/inbox/short", f"{inbox.path}A"]
    assert [other.post(path, b"{}", key=None).status for path in wrong] == [404, 404, 404, 429]
    assert inbox.post(server=other).status == 200, "the right one is not held up"


@pytest.mark.bound("LIMIT_INBOX_BYTES")
def test_a_body_over_the_limit_is_refused_before_it_is_read(inbox, server):
    assert inbox.post(DEAR).status == 200
    response = inbox.post(DEAR + b"x")
    assert response.status == 413
    assert response.json["response"]["message"] == ["request entity too large"]
    # refused by the announced length alone; a body ends where a length that is a lie says; chunks are counted
    assert raw(server, head(inbox, "Content-Length: 65537")).startswith(b"HTTP/1.1 413 ")
    raw(server, head(inbox, "Content-Length: 2"), b"{}" + b"x" * 70_000)
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    assert raw(server, head(inbox, "Transfer-Encoding: chunked"), chunk, chunk, b"1\r\nx\r\n")[9:12] == b"413"
    assert {row["size"] for row in inbox.rows()} <= {65536, 2}
    assert inbox.detail(inbox.rows()[0])["body"] == DEAR.decode()


@pytest.mark.bound("LIMIT_INBOX_HEADER_BYTES")
def test_headers_beyond_the_limit_are_left_out_and_the_page_says_so(inbox):
    first = {f"X_First_{number}": "y" * 4000 for number in range(3)}
    assert inbox.post(b"{}", **first, X_Last="z" * 5000).status == 200
    assert inbox.post(b"{}", **first).status == 200
    more, all_of_them = map(inbox.detail, inbox.rows())
    assert "x-last" not in dict(more["headers"])
    assert more["note"] == "More headers came, which were too long to be kept."
    assert {"x-first-0", "x-first-2"} <= dict(all_of_them["headers"]).keys()
    assert all_of_them["note"] == ""


@pytest.mark.bound("LIMIT_INBOX_POSTS_PER_MINUTE")
def test_an_inbox_takes_sixty_requests_a_minute_in_all_processes(inbox, server, other, staff):
    statuses = [inbox.post(server=process).status for process in (server, other) for _ in range(30)]
    assert statuses == [200] * 60
    assert inbox.post(server=other).status == 429
    refused = inbox.post()
    assert refused.status == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert len(inbox.rows()) == 60
    assert Mine(staff).post().status == 200, "each inbox has its own"
    server.shell(
        "from datetime import timedelta; from django.db.models import F; from realtime.models import Inbox;"
        "Inbox.objects.update(minute_began_at=F('minute_began_at') - timedelta(seconds=61))"
    )
    assert inbox.post().status == 200


@pytest.mark.slow
@pytest.mark.any_database
@pytest.mark.bound("LIMIT_INBOX_REQUESTS")
def test_the_newest_hundred_are_kept_and_the_dearest_are_read_and_checked_without_a_stall(start_server):
    server = start_server(LIMIT_INBOX_POSTS_PER_MINUTE="1000")
    inbox = Mine(Staff(server, is_superuser=True))
    signatures = " ".join(["v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="] * 300)
    signed = {"webhook_id": "msg_1", "webhook_timestamp": "1795932065", "webhook_signature": signatures}
    for _ in range(102):
        assert inbox.post(DEAR, **signed).status == 200
    rows = inbox.rows()
    assert len(rows) == bounds.INBOX_REQUESTS
    assert {row["verdict"] for row in rows} == {"unchecked"}
    assert inbox.staff.post(f"{inbox.page}secret/", {"secret": new_secret()}).status == 302
    assert {row["verdict"] for row in inbox.rows()} == {"invalid"}
    assert inbox.rows(after=rows[-2]["id"]) == inbox.rows()[-1:]
    assert inbox.detail(rows[-1])["size"] == len(DEAR)
    assert inbox.staff.post(f"{inbox.page}delete/").status == 302
    assert inbox.post().status == 404
