"""RFC 6455 on the wire: valid frames in any pieces, and the codes that invalid ones end the connection with.

The cases are groups 1 to 7 and 10 of the Autobahn test suite, and the rest of ASGI.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.protocols.utils import ClientDisconnected
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.utils import apply_mask

from realtime.wire import websocket
from realtime.wire.rfc6455 import BINARY, CLOSE, CONTINUATION, FRAGMENT, PING, PONG, TEXT, ProtocolError, Reader
from tests.in_process import InProcessServer, until

pytestmark = pytest.mark.any_database

KEY = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
HANDSHAKE = {"Host": "x", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"} | KEY
MAX_SIZE = 2_000_000

#: Sizes at which a frame's length changes its form.
SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536)


def masked(opcode, payload=b"", is_last=True, reserved=0, size=None):
    """Return a client's frame; `size` is a form of the length: 126 or 127, else the shortest."""
    size = size or (126 if 125 < len(payload) < 65536 else 127 if len(payload) > 125 else len(payload))
    length = len(payload).to_bytes({126: 2, 127: 8}.get(size, 0)) if size > 125 else b""
    mask = b"\x37\xfa\x21\x3d"
    return bytes((is_last << 7 | reserved << 4 | opcode, 0x80 | size)) + length + mask + apply_mask(payload, mask)


def closing(code, reason=b""):
    return masked(CLOSE, struct.pack("!H", code) + reason)


class Client:
    """A raw client that sends any bytes."""

    def __init__(self, port, headers=HANDSHAKE, start="GET /chat?a=1 HTTP/1.1", early=b"", buffer=None):
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", port))
        self._received = b""
        self.request(headers, start, early)

    def request(self, headers=HANDSHAKE, start="GET /chat?a=1 HTTP/1.1", early=b""):
        lines = [start, *(f"{name}: {value}" for name, value in headers.items())]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + early)
        while b"\r\n\r\n" not in self._received and self._more():
            pass
        self.head, _, self._received = self._received.partition(b"\r\n\r\n")
        self.status = int(self.head.split()[1]) if self.head else None

    def _more(self):
        data = b""
        with suppress(ConnectionResetError):
            data = self.socket.recv(65536)
        self._received += data
        return data

    def send(self, *frames, piece_size=None):
        data = b"".join(frames)
        for at in range(0, len(data), piece_size or len(data)):
            self.socket.sendall(data[at : at + (piece_size or len(data))])

    def take(self, size):
        while len(self._received) < size:
            assert self._more(), "closed"
        data, self._received = self._received[:size], self._received[size:]
        return data

    def frame(self):
        """Return the opcode and payload of the next frame."""
        first, size = self.take(2)
        assert first & 0xF0 == 0x80
        size = int.from_bytes(self.take(2)) if size == 126 else int.from_bytes(self.take(8)) if size == 127 else size
        return first & 0x0F, self.take(size)

    @property
    def rest(self):
        """Read until the server closes."""
        while self._more():
            pass
        data, self._received = self._received, b""
        return data

    def end(self):
        """Return the remaining frames, and the code with which the server closes both websocket and connection."""
        frames = []
        while (frame := self.frame())[0] != CLOSE:
            frames.append(frame)
        assert self.rest == b""
        self.socket.close()
        return frames, int.from_bytes(frame[1][:2]) if frame[1] else None


class Stage:
    """An ASGI application whose behaviour each test sets; an echo by default."""

    def __init__(self):
        self.act = echo
        self.scope = None

    async def __call__(self, scope, receive, send):
        self.scope = scope
        await (self.act if scope["type"] == "websocket" else respond)(receive, send)


async def filled(items):
    """Wait until the test, in another thread, puts something into a list."""
    while not items:  # noqa: ASYNC110 # an Event is for its own thread
        await asyncio.sleep(0.01)


async def respond(receive, send):
    await asyncio.sleep(0.05)
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})


async def echo(receive, send):
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send(message | {"type": "websocket.send"})


@pytest.fixture(scope="module")
def inside():
    with InProcessServer(Stage(), ws_max_size=MAX_SIZE) as inside:
        yield inside


@pytest.fixture
def stage(inside):
    yield inside.other
    inside.other.act = echo


@pytest.fixture
def client(inside):
    client = Client(inside.port)
    assert client.status == 101
    yield client
    client.socket.close()


@pytest.fixture
def connect(inside):
    clients = []

    def connect(*args, **options):
        clients.append(Client(inside.port, *args, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.socket.close()


# Frames


@pytest.mark.parametrize("piece_size", [None, 1, 997])
def test_messages_of_all_lengths_are_echoed_in_any_pieces(client, piece_size):
    for size in SIZES:
        for opcode, payload in ((TEXT, b"*" * size), (BINARY, b"\xfe" * size)):
            client.send(masked(opcode, payload), piece_size=piece_size)
            assert client.frame() == (opcode, payload)


def test_many_messages_in_one_piece_are_echoed_in_order(client):
    messages = [(TEXT, str(number).encode()) for number in range(2000)]

    client.send(*(masked(*message) for message in messages))

    assert [client.frame() for _ in messages] == messages


def test_a_long_message_in_small_pieces_costs_no_more_than_its_length(client):
    payload = bytes(range(256)) * 4000

    client.send(masked(BINARY, payload), piece_size=64)

    assert client.frame() == (BINARY, payload)


def test_pings_are_answered_and_pongs_are_not(client):
    for payload in (b"", b"hello", b"\x00\xff\xfe\xfd", b"\xfe" * 125):
        client.send(masked(PONG, payload), masked(PING, payload))
        assert client.frame() == (PONG, payload)
    client.send(masked(PING, b"slowly"), piece_size=1)
    assert client.frame() == (PONG, b"slowly")
    client.send(*(masked(PING, b"%d" % number) for number in range(10)))
    assert [client.frame() for _ in range(10)] == [(PONG, b"%d" % number) for number in range(10)]


INVALID = {
    "long ping": masked(PING, b"\xfe" * 126),
    "long close": masked(CLOSE, b"\x03\xe8" + b"x" * 124),
    "fragmented ping": masked(PING, b"", is_last=False),
    "unmasked": b"\x81\x05hello",
    "length of 125 in 16 bits": masked(TEXT, b"x" * 125, size=126),
    "length of 65535 in 64 bits": masked(TEXT, b"x" * 65535, size=127),
    "length in 64 bits with the highest set": b"\x82\xff\x80" + bytes(7),
    "continuation of nothing": masked(CONTINUATION, b"x"),
    "fragmented continuation of nothing": masked(CONTINUATION, b"x", is_last=False),
    "text within a text": masked(TEXT, b"a", is_last=False) + masked(TEXT, b"b"),
    "binary within a text": masked(TEXT, b"a", is_last=False) + masked(BINARY, b"b", is_last=False),
} | {
    f"reserved {what}": masked(opcode, b"x", reserved=reserved)
    for what, opcode, reserved in (
        *((f"bits {bits}", TEXT, bits) for bits in range(1, 8)),
        *((f"bits {bits} of a ping", PING, bits) for bits in (1, 2, 4)),
        *((f"opcode {opcode}", opcode, 0) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    )
}


@pytest.mark.parametrize("piece_size", [None, 1])
@pytest.mark.parametrize("frames", INVALID.values(), ids=INVALID)
def test_a_protocol_error_ends_the_connection(client, frames, piece_size):
    client.send(masked(TEXT, b"before"), frames[: None if piece_size is None else 20], piece_size=piece_size)

    assert client.end() == ([(TEXT, b"before")], 1002)


def test_frames_after_a_protocol_error_are_not_read(client):
    client.send(masked(TEXT, b"before"), masked(5), masked(TEXT, b"after"), masked(PING))

    assert client.end() == ([(TEXT, b"before")], 1002)


@pytest.mark.parametrize("piece_size", [None, 1])
def test_fragments_make_a_message_with_control_frames_between_them(client, piece_size):
    for opcode in (TEXT, BINARY):
        client.send(
            masked(opcode, b"", is_last=False),
            masked(PING, b"1"),
            masked(CONTINUATION, b"frag", is_last=False),
            masked(CONTINUATION, b"", is_last=False),
            masked(PONG, b"unasked"),
            masked(CONTINUATION, b"ment", is_last=False),
            masked(PING, b"2"),
            masked(CONTINUATION, b""),
            masked(opcode, b"next"),
            piece_size=piece_size,
        )
        expected = [(PONG, b"1"), (PONG, b"2"), (opcode, b"fragment"), (opcode, b"next")]
        assert [client.frame() for _ in expected] == expected
    client.send(masked(TEXT, b"", is_last=False), masked(CONTINUATION, b"", is_last=False), masked(CONTINUATION))
    assert client.frame() == (TEXT, b"")


def test_a_message_in_many_fragments_is_echoed(client):
    payload = b"*" * 65536
    pieces = [payload[at : at + 1300] for at in range(0, len(payload), 1300)]

    client.send(masked(TEXT, pieces[0], is_last=False))
    for piece in pieces[1:-1]:
        client.send(masked(CONTINUATION, piece, is_last=False))
    client.send(masked(CONTINUATION, pieces[-1]))

    assert client.frame() == (TEXT, payload)


@pytest.mark.parametrize(
    "frames",
    [
        masked(BINARY, bytes(MAX_SIZE + 1)),
        masked(BINARY, bytes(MAX_SIZE), is_last=False) + masked(CONTINUATION, b"x"),
        b"\x82\xff" + (1 << 62).to_bytes(8) + b"mask",
    ],
    ids=["at once", "in fragments", "announced"],
)
def test_a_message_over_the_limit_ends_the_connection(client, frames):
    with suppress(BrokenPipeError, ConnectionResetError):
        client.send(frames)

    assert client.end() == ([], 1009)


def test_a_message_may_have_the_limit_in_bytes(client):
    client.send(masked(BINARY, bytes(MAX_SIZE)))
    assert client.frame() == (BINARY, bytes(MAX_SIZE))


# Texts

VALID_TEXTS = [
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\x00 \x7f \x80 \u07ff \u0800 \ud7ff \ue000 \ufffd \uffff \U00010000 \U0010ffff",
    "\ufffe \ufdd0 \U0001fffe \U0010fffe",
]
INVALID_TEXTS = {
    "surrogates": b"\xed\xa0\x80 \xed\xb0\x80",
    "last surrogate": b"\xed\xbf\xbf",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "six bytes": b"\xfc\x84\x80\x80\x80\x80",
    "overlong slash in two": b"\xc0\xaf",
    "overlong slash in three": b"\xe0\x80\xaf",
    "overlong slash in four": b"\xf0\x80\x80\xaf",
    "overlong NUL": b"\xc0\x80",
    "longest overlong": b"\xf0\x8f\xbf\xbf",
    "no start": b"\x80",
    "end within a character": b"\xce\xba\xe1\xbd",
    "start and no more": b"\xc3 ",
    "never a byte": b"\xff",
}


@pytest.mark.parametrize("text", VALID_TEXTS)
def test_a_text_may_be_fragmented_within_its_characters(client, text):
    payload = text.encode()
    *fragments, last = [bytes((octet,)) for octet in payload]

    client.send(masked(TEXT, payload))
    client.send(masked(TEXT, b"", is_last=False))
    client.send(*(masked(CONTINUATION, octet, is_last=False) for octet in fragments))
    client.send(masked(CONTINUATION, last))

    assert [client.frame(), client.frame()] == [(TEXT, payload), (TEXT, payload)]


@pytest.mark.parametrize("piece_size", [None, 1])
@pytest.mark.parametrize("octets", INVALID_TEXTS.values(), ids=INVALID_TEXTS)
def test_invalid_utf8_ends_the_connection(connect, octets, piece_size):
    payload = "é".encode() + octets
    complete, fragmented = connect(), connect()

    complete.send(masked(TEXT, payload), piece_size=piece_size)
    fragmented.send(masked(TEXT, b"", is_last=False))
    fragmented.send(*(masked(CONTINUATION, bytes((octet,)), is_last=False) for octet in payload), piece_size=piece_size)
    fragmented.send(masked(CONTINUATION), piece_size=piece_size)

    assert (complete.end(), fragmented.end()) == (([], 1007), ([], 1007))


@pytest.mark.parametrize("octets", [b"\xf4\x90", b"\xed\xa0\x80", b"\xc0", b"\xff"])
def test_a_text_fails_with_its_first_invalid_fragment(client, octets):
    client.send(masked(TEXT, "κόσμε".encode() + octets, is_last=False))

    assert client.end() == ([], 1007)


def test_binary_messages_need_not_be_utf8(client):
    client.send(masked(BINARY, b"\xff", is_last=False), masked(CONTINUATION, b"\xc0"))
    assert client.frame() == (BINARY, b"\xff\xc0")


# The end


@pytest.mark.parametrize(
    "code",
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999],
)
def test_a_close_frame_is_echoed_and_passed_to_the_application(connect, stage, code):
    disconnects = recorded(stage)

    client = connect()
    client.send(closing(code, "até".encode()))

    assert client.end() == ([], code)
    until(lambda: {"type": "websocket.disconnect", "code": code, "reason": "até"} in disconnects)


def recorded(stage):
    """Return the list that gets the application's last message of each connection."""
    disconnects = []

    async def record(receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            pass
        disconnects.append(message)

    stage.act = record
    return disconnects


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (masked(CLOSE), None),
        (masked(CLOSE, b"\x03"), 1002),
        (closing(1000, b"x" * 123), 1000),
        (closing(1000, b"\xce\xba\xe1\xbd"), 1007),
        *((closing(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)),
    ],
)
@pytest.mark.parametrize("piece_size", [None, 1])
def test_a_close_frame_is_validated(client, frame, code, piece_size):
    client.send(masked(TEXT, b"before"), frame, piece_size=piece_size)

    assert client.end() == ([(TEXT, b"before")], code)


@pytest.mark.parametrize("after", [masked(TEXT, b"x"), masked(PING), closing(1001), masked(5), b"\x81"])
def test_frames_after_a_close_are_ignored(client, after):
    client.send(closing(1000), after)
    assert client.end() == ([], 1000)


def test_a_close_may_come_within_a_fragmented_message(client):
    client.send(masked(TEXT, b"frag", is_last=False), closing(1000), masked(CONTINUATION, b"ment"))
    assert client.end() == ([], 1000)


@pytest.mark.parametrize(("last", "code"), [(b"", 1006), (masked(CLOSE), 1005)])
def test_the_application_gets_the_code_of_a_client_that_hangs_up(connect, stage, last, code):
    disconnects = recorded(stage)
    client = connect()
    client.send(masked(TEXT, b"x"), last)
    client.socket.shutdown(socket.SHUT_WR)

    assert client.rest in (b"", b"\x88\x00")
    assert until(lambda: disconnects) == [{"type": "websocket.disconnect", "code": code, "reason": ""}]


def test_messages_before_the_end_are_received_before_it(connect, stage):
    received, may_receive = [], []

    async def receive_late(receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await filled(may_receive)
        while not received or received[-1]["type"] != "websocket.disconnect":
            received.append(await receive())
        received.append(await receive())

    stage.act = receive_late
    client = connect()
    client.send(masked(TEXT, b"1"), masked(TEXT, b"2"), masked(BINARY, b"3"), closing(4000, b"bye"))
    client.socket.shutdown(socket.SHUT_WR)
    assert client.rest == b""
    may_receive.append(True)

    until(lambda: len(received) == 5)
    assert [message.get("text", message.get("bytes")) for message in received[:3]] == ["1", "2", b"3"]
    assert received[3] == received[4] == {"type": "websocket.disconnect", "code": 4000, "reason": "bye"}


# The handshake


def test_the_handshake_is_answered_as_in_the_rfc(client, stage):
    lines = client.head.lower().split(b"\r\n")

    assert lines[0] == b"http/1.1 101 switching protocols"
    assert {b"upgrade: websocket", b"connection: upgrade"} <= set(lines)
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in client.head
    assert b"extensions" not in client.head.lower()


def test_the_application_is_told_what_was_asked_for(connect, stage):
    async def choose(receive, send):
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "b", "headers": [(b"x-own", b"1")]})
        await receive()

    stage.act = choose
    headers = HANDSHAKE | {"Sec-WebSocket-Protocol": "a, b", "X-Some": "ü", "Sec-WebSocket-Extensions": "x"}
    client = connect(headers, "GET /a%20b%C3%A9?c=%20d HTTP/1.1")

    assert client.status == 101
    assert b"\r\nSec-WebSocket-Protocol: b\r\nx-own: 1" in client.head
    scope = stage.scope
    assert {key: scope[key] for key in ("type", "scheme", "http_version", "path", "raw_path", "query_string")} == {
        "type": "websocket",
        "scheme": "ws",
        "http_version": "1.1",
        "path": "/a bé",
        "raw_path": b"/a%20b%C3%A9",
        "query_string": b"c=%20d",
    }
    assert (scope["subprotocols"], scope["root_path"], scope["state"]) == (["a", "b"], "", {})
    assert (b"x-some", "ü".encode()) in scope["headers"]
    assert scope["client"] == client.socket.getsockname()
    assert scope["server"] == client.socket.getpeername()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Sec-WebSocket-Version": "8"}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZ"}, 400),
        ({"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==="}, 400),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
        ({"Sec-WebSocket-Key": "é"}, 400),
        ({"sec-websocket-key": KEY["Sec-WebSocket-Key"]}, 400),
        ({"Host": None}, 400),
        ({"X-Long": "x" * 20_000}, 400),
        ({f"X-{number}": "" for number in range(150)}, 400),
    ],
)
def test_an_invalid_handshake_is_refused(connect, change, status):
    client = connect({name: value for name, value in (HANDSHAKE | change).items() if value is not None})

    assert client.status == status
    assert (b"\r\nsec-websocket-version: 13\r\n" in client.head + b"\r\n") == (status == 426)
    assert b'"status"' in client.rest


@pytest.mark.parametrize("start", ["POST /chat HTTP/1.1", "GET /chat HTTP/1.0", "GET /ch\u00e9t HTTP/1.1"])
def test_a_handshake_is_a_get_in_http_1_1(connect, start):
    assert connect(start=start).status == 400


@pytest.mark.parametrize("body", [{"Content-Length": "2"}, {"Transfer-Encoding": "chunked"}])
def test_a_handshake_has_no_body(connect, body):
    assert connect(HANDSHAKE | body).status == 400


def test_frames_sent_with_the_handshake_are_received(connect):
    client = connect(early=masked(TEXT, b"early") + masked(PING, b"bird") + masked(TEXT, b"half")[:3])

    assert [client.frame(), client.frame()] == [(TEXT, b"early"), (PONG, b"bird")]
    client.send(masked(TEXT, b"half")[3:])
    assert client.frame() == (TEXT, b"half")


def test_a_handshake_may_follow_a_request_but_not_overtake_its_response(connect):
    client = connect({"Host": "x"})
    assert client.status == 204
    client.request()
    assert client.status == 101
    client.send(masked(TEXT, b"x"))
    assert client.frame() == (TEXT, b"x")

    assert connect(start="GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /chat HTTP/1.1").status is None


# ASGI


def test_an_application_may_refuse(connect, stage):
    disconnects = []

    async def refuse(receive, send):
        await receive()
        await send({"type": "websocket.close"})
        disconnects.append(await receive())

    stage.act = refuse
    client = connect()

    assert (client.status, client.rest) == (403, b"")
    assert until(lambda: disconnects) == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


def test_an_application_may_deny_with_a_response_of_its_own(connect, stage):
    async def refuse(receive, send):
        await receive()
        start = {"status": 401, "headers": [(b"content-type", b"text/plain"), (b"x-own", b"1")]}
        await send({"type": "websocket.http.response.start"} | start)
        await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"you"})

    stage.act = refuse
    client = connect()

    assert (client.status, client.rest) == (401, b"not you")
    assert b"\r\nx-own: 1\r\nContent-Length: 7" in client.head


@pytest.mark.parametrize("is_accepted", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_an_application_that_returns_ends_the_connection(connect, stage, caplog, is_accepted, fails):
    async def end(receive, send):
        await receive()
        if is_accepted:
            await send({"type": "websocket.accept"})
        if fails:
            raise ValueError("the application's own")

    stage.act = end
    client = connect()

    if is_accepted:
        assert client.frame() == (CLOSE, struct.pack("!H", 1011 if fails else 1000))
        client.send(masked(CLOSE, struct.pack("!H", 1000)))
        assert client.rest == b""
    else:
        assert (client.status, client.rest) == (500, b"Internal Server Error")
    assert ("the application's own" in caplog.text) == fails


def test_an_application_closes_with_code_and_reason_and_sends_no_more(connect, stage):
    raised = []

    async def close(receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4001, "reason": "ção" * 60})
        assert (await receive())["code"] == 4001
        for kind in ("send", "close", "accept"):
            try:
                await send({"type": f"websocket.{kind}", "text": "x"})
            except RuntimeError as error:
                raised.append(str(error))

    stage.act = close
    client = connect()

    opcode, payload = client.frame()
    assert (opcode, payload[:2], payload[2:].decode()) == (CLOSE, struct.pack("!H", 4001), ("ção" * 60)[:73])
    client.send(masked(TEXT, b"late"), masked(PING), closing(4001))
    assert client.rest == b""
    assert len(until(lambda: len(raised) == 3 and raised)) == 3


@pytest.mark.bound("LIMIT_CLOSE_SECONDS")
def test_a_client_that_ignores_a_close_frame_is_disconnected(connect, stage, monkeypatch):
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 0.2)

    async def close(receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    stage.act = close
    client = connect()

    assert client.frame()[0] == CLOSE
    client.send(masked(TEXT, b"never"))
    assert client.rest == b""


def test_sending_after_a_disconnect_raises(connect, stage):
    raised = []

    async def send_all(receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"
        try:
            await send({"type": "websocket.send", "text": "x"})
        except OSError as error:
            raised.append(error)
            raise

    stage.act = send_all
    client = connect()
    client.send(closing(1000))
    assert client.end() == ([], 1000)

    assert isinstance(until(lambda: raised)[0], ClientDisconnected)


def test_a_cancelled_receive_loses_no_message(connect, stage):
    async def receive_often(receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        received = 0
        while received < 200:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.001):
                    received += (await receive())["type"] == "websocket.receive"
        await send({"type": "websocket.send", "text": "all"})

    stage.act = receive_often
    client = connect()
    for _ in range(200):
        client.send(masked(TEXT, b"x"))
        time.sleep(0.0013)  # about when it gives up
    assert client.frame() == (TEXT, b"all")


# Slowness on either side


def test_an_application_that_does_not_receive_pauses_reading(connect, stage):
    received, may_receive = [], []

    async def receive_late(receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await filled(may_receive)
        while (message := await receive())["type"] == "websocket.receive":
            received.append(len(message["bytes"]))

    stage.act = receive_late
    client = connect()
    client.socket.settimeout(1)
    frame, sent = masked(BINARY, bytes(100_000)), 0
    with suppress(TimeoutError):  # the kernel's buffers are full
        while sent < 2000:
            client.socket.sendall(frame)
            sent += 1
    assert sent < 2000
    assert not received
    may_receive.append(True)
    until(lambda: len(received) >= sent)


def test_a_client_that_does_not_read_makes_the_application_wait(connect, stage):
    sent = []

    async def send_all(receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        for number in range(200):
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
            sent.append(number)
        await receive()

    stage.act = send_all
    client = connect(buffer=4096)
    assert until(lambda: len(sent) > 0)
    before = -1
    while before != len(sent):
        before = len(sent)
        time.sleep(0.05)
    assert len(sent) < 200
    client.send(*(masked(PING, b"%d" % number) for number in range(5)))
    frames = [client.frame() for _ in range(201)]
    assert [opcode for opcode, _ in frames].count(BINARY) == 200
    assert (PONG, b"4") in frames


def test_a_server_that_stops_closes_with_1012():
    with InProcessServer(Stage()) as inside:
        client = Client(inside.port)
        assert client.status == 101
        inside.uvicorn.should_exit = True
        assert client.end() == ([], 1012)


# Compared with the websockets library


messages = st.tuples(
    st.one_of(st.text(max_size=70), st.binary(max_size=140), st.integers(60, 5000).map("é".__mul__)),
    st.lists(st.integers(0, 140), max_size=4),
    st.lists(st.sampled_from([PING, PONG]), max_size=2),
)


def in_frames(content, inner_bounds, controls):
    """Yield a message in fragments, with control frames before each of them."""
    opcode = TEXT if isinstance(content, str) else BINARY
    payload = content.encode() if isinstance(content, str) else content
    bounds = [0, *sorted(min(bound, len(payload)) for bound in inner_bounds), len(payload)]
    for number, (begin, end) in enumerate(pairwise(bounds)):
        for control in controls:
            yield masked(control, b"%d" % number)
        is_last = number == len(bounds) - 2
        yield masked(CONTINUATION if number else opcode, payload[begin:end], is_last=is_last)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.lists(messages, max_size=8), st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_any_messages_in_any_pieces_are_read_as_the_websockets_library_reads_them(sequence, sizes):
    data = b"".join(frame for message in sequence for frame in in_frames(*message))
    reader, library = Reader(MAX_SIZE), ServerProtocol(state=State.OPEN, max_size=MAX_SIZE)
    ours, theirs, at = [], [], 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        chunk, at = data[at : at + size], at + size
        reader.feed(chunk)
        ours += whole(reader)
        library.receive_data(chunk)
        theirs += library.events_received()

    assert ours == list(joined(theirs))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(messages, max_size=3), st.integers(0), st.binary(max_size=40), st.integers(1, 5))
def test_any_octets_are_parsed_the_same_in_any_pieces(sequence, start, octets, size):
    """Messages with other octets written over them give the same results before the same error, if any."""
    data = bytearray(b"".join(frame for message in sequence for frame in in_frames(*message)))
    start %= len(data) + 1
    data[start : start + len(octets)] = octets

    assert outcome([bytes(data)]) == outcome([bytes(data[at : at + size]) for at in range(0, len(data), size)])


def whole(reader):
    """Yield the messages and control frames that are complete, without those frames that complete none."""
    return (read for read in iter(reader.read, None) if read != FRAGMENT)


def outcome(chunks):
    reader, read = Reader(10_000), []
    try:
        for chunk in chunks:
            reader.feed(chunk)
            read += whole(reader)
    except ProtocolError as error:
        read.append(error.code)
    return read


def joined(frames: list[Frame]):
    opcode, parts = Opcode.TEXT, b""
    for frame in frames:
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            yield int(frame.opcode), bytes(frame.data)
            continue
        opcode = opcode if frame.opcode is Opcode.CONT else frame.opcode
        parts += frame.data
        if frame.fin:
            yield int(opcode), parts.decode() if opcode is Opcode.TEXT else parts
            parts = b""
