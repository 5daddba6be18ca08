"""Packets that no honest client sends: none fails the server, and other clients are served."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from tests.clients.polling import SEPARATOR, Polling
from tests.clients.raw import Raw

pytestmark = pytest.mark.any_database

#: The code with which uvicorn closes a websocket when the application has failed.
INTERNAL_ERROR = 1011

#: Binary attachments that a packet may have.
MAX_ATTACHMENTS = 10

digits = st.integers(0, 10**400).map(str) | st.text("0123456789²٣", max_size=30)
symbols = st.sampled_from(
    ["", "-", ",", "/", "?", '"', "[", "{", "\0", "\x1e", "\x7f", "\ufeff", "b", " ", "\r\n", "😀"]
)
namespaces = st.sampled_from(
    ["", "/", "/,", "/loja,", "/loja", "//", "/loja/loja,", "/a?b=c,", "/*,", "/../,"]
) | st.text("/loja,?%-", max_size=20)
numbers = st.sampled_from(["NaN", "Infinity", "-Infinity", "1e999", "-0", "9" * 5000, "0x1", "1_000"])
names = st.sampled_from(
    ["connect", "disconnect", "connect_error", "joined", "__proto__", "*", "send_message", "error", "", "a"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
placeholders = st.builds(lambda number: {"_placeholder": True, "num": number}, st.integers(-2, 12) | values)
arguments = st.lists(values | placeholders, max_size=3)
bodies = st.one_of(
    st.builds(lambda name, rest: json.dumps([name, *rest]), names | values, arguments),
    values.map(json.dumps),
    st.builds(lambda depth, pair: pair[0] * depth + pair[1] * depth, st.integers(1, 5000), st.just(("[", "]"))),
    st.builds(lambda depth: '{"a":' * depth, st.integers(1, 5000)),
    numbers,
    numbers.map(lambda number: f'["send_message",{number}]'),
    st.sampled_from([r'["\ud800"]', r'["a","\udc00\ud800"]', '["a"', "[]", "[[]]", '{"":', "", '["a"]]', "\x00"]),
)
attachments = st.just("") | digits.map(lambda count: f"{count}-") | st.integers(0, 12).map(lambda count: f"{count}-")
grammatical = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["4"] * 6 + ["0", "1", "2", "3", "5", "6", "7", "9", "b", "-", ""]),
        st.sampled_from([*"0123456789", ""]),
        attachments,
        namespaces,
        st.just("") | digits,
        symbols,
        bodies,
    ),
)
real = st.sampled_from(
    [
        '40/loja,{"apikey":"x"}',
        "41/loja,",
        '42/loja,["send_message",{"text":"hello"}]',
        '42/loja,17["send_message",{"text":"hello"}]',
        '43/loja,17[{"a":1}]',
        '451-/loja,["file",{"_placeholder":true,"num":0}]',
        '461-/loja,17[{"_placeholder":true,"num":0}]',
        "2probe",
        "5",
        "6",
        "1",
        "bAAEC",
    ]
).map(str.encode)


def mutated(packet, at, size, put):
    at %= len(packet) + 1
    return packet[:at] + put + packet[at + size :]


mutants = st.builds(
    mutated, real, st.integers(0, 60), st.integers(0, 5), st.binary(max_size=4) | real | digits.map(str.encode)
)
#: The payload of one frame or one packet of a body; not always text.
packets = st.one_of(
    grammatical.map(lambda packet: packet.encode(errors="surrogatepass")),
    mutants,
    real,
    st.text(max_size=40).map(str.encode),
    st.binary(max_size=40),
)


class Healthy:
    """Another client of the same server, which is served each time."""

    def __init__(self, server):
        self.server, self.instance = server, server.create()
        self.client = Raw(server.url)
        assert self.client.join(f"/{self.instance.name}", {"apikey": self.instance.token})[0] == "0"
        self.sent = 0

    def is_served(self):
        self.sent += 1
        assert self.server.receive(self.instance, str(self.sent)).status == 200
        while (event := self.client.event())[0] != "messages.upsert":
            pass  # contacts and chats come with it
        return event[1]["data"]["message"]["conversation"] == str(self.sent)


@pytest.fixture
def server(fresh_server):
    server = fresh_server()
    yield server
    server.stop()
    log = server.log.read_text()
    assert "Traceback" not in log, log[-10_000:]
    assert "never awaited" not in log, log[-10_000:]


@pytest.fixture
def healthy(server):
    healthy = Healthy(server)
    yield healthy
    healthy.client.close()


def test_no_post_fails_the_server(server, healthy):
    instance = server.create("loja")

    @settings(max_examples=200)
    @given(st.lists(packets, min_size=1, max_size=4), st.booleans())
    @example([b"4" + b"2" * 5000], True)
    @example([b"42/loja," + b"[" * 100_000], True)
    @example([b"2"] * 1000, True)
    @example([b""] * 1000, False)
    @example([b"45999999999-/loja,[]"], True)
    def post(packets, is_joined):
        client = Polling(server.url)
        if is_joined:
            client.join("/loja", apikey=instance.token)
        status = server.post(client.path, SEPARATOR.encode().join(packets), key=None).status
        assert status in (200, 400)
        assert healthy.is_served()

    post()


def test_no_frame_fails_the_server(server, healthy):
    instance, other = server.create("loja"), server.create("outra")

    def is_read(client):
        """Return whether the server reads on, by joining. After a packet with attachments, texts are read as those."""
        for _ in range(MAX_ATTACHMENTS + 1):
            client.socket.send(f'40/outra,{{"apikey":"{other.token}"}}')
            with suppress(TimeoutError):
                while not client.socket.recv(1).startswith(("40/outra,", "44/outra,")):
                    pass
                return True
        return False

    @settings(max_examples=200)
    @given(st.lists(st.tuples(packets, st.booleans()), min_size=1, max_size=4), st.booleans())
    @example([(b"451-/loja,[" + b'{"_placeholder":true,"num":-1}]', True), (b"\0", False)], True)
    @example([(b"4510-/loja,[]", True), *[(b"\0", False)] * 11], True)
    @example([(b"451-/loja,[]", True), (b'42/loja,["a"]', True)], True)
    @example([(b"", True)], True)
    @example([(b"\xed\xa0\x80", True)], True)
    def send(frames, is_joined):
        client = Raw(server.url)
        if is_joined:
            client.join("/loja", {"apikey": instance.token})
        with suppress(ConnectionClosed):
            for payload, is_text in frames:
                client.socket.send(payload, text=is_text)
            assert is_read(client)
        client.close()
        assert client.socket.close_code != INTERNAL_ERROR
        assert healthy.is_served()

    send()
