"""Requests that are no HTTP get an error in the usual shape, where it cannot be taken for another response."""

from __future__ import annotations

import json
import socket

import pytest

pytestmark = pytest.mark.any_database

CHUNKED = b"POST /webhook/evolution HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"


def exchange(server, sent):
    """Return all that the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(sent)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",  # TLS
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        CHUNKED + b"no size\r\n",
    ],
)
def test_a_malformed_request_is_refused_in_the_usual_shape(server, sent):
    head, _, body = exchange(server, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nx-content-type-options: nosniff\r\n" in head
    assert b"content-type: application/json" in head
    assert json.loads(body)["response"]["message"] == ["The request is not valid HTTP/1.1: see RFC 9112"]


def test_a_page_can_read_the_refusal_of_a_large_head(server):
    head = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://panel.example\r\nX: " + b"x" * 70_000
    response = exchange(server, head)
    assert response.startswith(b"HTTP/1.1 431 ")
    assert b"\r\naccess-control-allow-origin: *\r\n" in response


def test_malformed_bytes_after_a_request_get_no_second_response_before_the_first(server):
    received = exchange(
        server, b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGARBAGE\r\n\r\n"
    )
    assert received.count(b"HTTP/1.1 ") <= 1
