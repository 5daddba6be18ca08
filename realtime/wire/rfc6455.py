"""The WebSocket protocol, server side: the handshake, and parsing of frames (RFC 6455). No input or output here.

The server's frames are built in realtime/wire/outbox.py. No extension is negotiated: compression costs more than
small events save.
"""

from __future__ import annotations

import codecs
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Collection
from hashlib import sha1
from itertools import chain

from instances.bounds import HANDSHAKE_BYTES

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

#: What a frame gives that completes no message.
FRAGMENT = CONTINUATION, b""

#: Status codes (section 7.4.1). NO_CODE and NO_CLOSE are never sent: they stand for a close frame without a code, and
#: for a connection lost without one.
NORMAL, PROTOCOL_ERROR, NO_CODE, NO_CLOSE, INVALID_TEXT, TOO_BIG = 1000, 1002, 1005, 1006, 1007, 1009
SERVER_ERROR, RESTART, TRY_LATER = 1011, 1012, 1013
#: Codes that a close frame may have, besides the applications' own from 3000 to 4999.
CODES = {1000, 1001, 1002, 1003, *range(1007, 1015)}

#: Headers that a handshake may have: applications may keep them as long as the connection.
MAX_HEADERS = 128

#: Bytes of a control frame's payload (section 5.5).
MAX_CONTROL_SIZE = 125

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class HandshakeError(Exception):
    """Raised for a request that is no valid handshake; its text is the reason, `status` the HTTP response's."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ProtocolError(Exception):
    """Raised for frames that violate the protocol; `code` and the text are those of the close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


# The handshake


def accept(method: str, http_version: str, headers: Collection[tuple[bytes, bytes]]) -> bytes:
    """Return the Sec-WebSocket-Accept for a handshake (section 4.2); the names of its headers are in lower case.

    The caller has checked the Upgrade and Connection headers.

    Raises HandshakeError: 426 for another version of the protocol, else 400.
    """
    names = [name for name, _ in headers]
    if len(names) > MAX_HEADERS or sum(map(len, chain(*headers))) > HANDSHAKE_BYTES:
        raise HandshakeError("The headers of the websocket handshake are too large")
    values = dict(headers)
    if b"transfer-encoding" in values or values.get(b"content-length", b"0") != b"0":
        raise HandshakeError("A websocket handshake has no body")
    if method != "GET" or http_version != "1.1" or names.count(b"host") != 1:
        raise HandshakeError("A websocket handshake is a GET in HTTP/1.1 with one Host")
    if values.get(b"sec-websocket-version") != b"13":
        raise HandshakeError("Only version 13 of WebSocket is supported", 426)
    key = values.get(b"sec-websocket-key", b"")
    if names.count(b"sec-websocket-key") != 1 or not _is_key(key):
        raise HandshakeError("Sec-WebSocket-Key must be 16 bytes in base64")
    return b2a_base64(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest(), newline=False)  # noqa: S324 # the RFC's


def _is_key(value: bytes) -> bool:
    try:
        return len(a2b_base64(value, strict_mode=True)) == 16
    except Error:
        return False


# Frames


def control_frame(opcode: int, payload: bytes = b"") -> bytes:
    """Return an unmasked control frame; `payload` has at most MAX_CONTROL_SIZE bytes."""
    return bytes((0x80 | opcode, len(payload))) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a close frame; a long reason is truncated, between two characters."""
    text = reason.encode()[: MAX_CONTROL_SIZE - 2].decode(errors="ignore")
    return control_frame(CLOSE, code.to_bytes(2) + text.encode())


def read_close(payload: bytes) -> tuple[int, str]:
    """Return the code and reason of a close frame. Raises ProtocolError."""
    if not payload:
        return NO_CODE, ""
    code = int.from_bytes(payload[:2])
    if len(payload) == 1 or not (code in CODES or 3000 <= code < 5000):
        raise ProtocolError(PROTOCOL_ERROR, "invalid close code")
    return code, _text(payload[2:])


def _text(payload: bytes | bytearray) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise ProtocolError(INVALID_TEXT, "invalid UTF-8") from None


class Reader:
    """An incremental parser of a client's frames, which yields messages and control frames."""

    __slots__ = ("_buffer", "_decoder", "_message", "_needed", "_opcode", "_start", "max_size")

    def __init__(self, max_size: int) -> None:
        #: Bytes that a message may have.
        self.max_size = max_size
        self._buffer: bytes | bytearray = b""
        #: Index of the next frame in the buffer, and the bytes of that frame needed for the next step.
        self._start, self._needed = 0, 2
        #: State of a fragmented message: its opcode (CONTINUATION if there is none), payload so far and UTF-8 decoder.
        self._opcode = CONTINUATION
        self._message: bytearray | None = None
        self._decoder: codecs.IncrementalDecoder | None = None

    def feed(self, data: bytes) -> None:
        """Append received bytes to the buffer."""
        if self._start == len(self._buffer):
            self._buffer = data
        else:
            if not isinstance(self._buffer, bytearray):
                self._buffer = bytearray(self._buffer)
            del self._buffer[: self._start]
            self._buffer += data
        self._start = 0

    @property
    def held(self) -> int:
        """Bytes that are kept: those that are not parsed, and the fragments of a message."""
        return len(self._buffer) - self._start + len(self._message or b"")

    @property
    def has_more(self) -> bool:
        """True while the buffer holds bytes that are not parsed."""
        return self._start < len(self._buffer)

    def read(self) -> tuple[int, str | bytes] | None:
        """Parse one frame; return the opcode and payload of the message or control frame that it completes.

        Returns FRAGMENT for a frame that completes neither, None until more is fed. Raises ProtocolError.
        """
        frame = self._frame()
        if frame is None:
            return None
        first, payload = frame
        if first == 0x80 | TEXT:
            return TEXT, _text(payload)
        opcode = first & 0x0F
        if first == 0x80 | BINARY or opcode >= CLOSE:
            return opcode, payload
        return self._join(opcode, payload, is_last=first >= 0x80)

    def _frame(self) -> tuple[int, bytes] | None:
        """Return the first octet and the payload of the next frame; None until it is complete."""
        buffer, start = self._buffer, self._start
        available = len(buffer) - start
        if available < self._needed:
            return None
        first, second = buffer[start], buffer[start + 1]
        size, mask = second & 0x7F, start + 2
        if size > 125:
            mask += 2 if size == 126 else 8
            if available < mask - start:
                self._needed = mask - start
                return None
            size = _long_size(size, buffer[start + 2 : mask])
        end = mask + 4 + size
        if len(buffer) < end:
            self._check(first, second, size)
            self._needed = end - start
            return None
        self._check(first, second, size)
        payload = _unmasked(buffer[mask + 4 : end], buffer[mask : mask + 4])
        self._start, self._needed = end, 2
        if end == len(buffer):
            self._buffer, self._start = b"", 0  # an idle connection keeps no buffer
        return first, payload

    def _check(self, first: int, second: int, size: int) -> None:
        """Raise ProtocolError for a header that no client may send now (section 5.2)."""
        opcode = first & 0x0F
        if first & 0x70:
            raise ProtocolError(PROTOCOL_ERROR, "reserved bits are set")
        if second < 0x80:
            raise ProtocolError(PROTOCOL_ERROR, "frames of clients are masked")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise ProtocolError(PROTOCOL_ERROR, "unknown opcode")
            if first < 0x80 or size > MAX_CONTROL_SIZE:
                raise ProtocolError(PROTOCOL_ERROR, "a control frame is fragmented or too long")
            return
        if opcode > BINARY:
            raise ProtocolError(PROTOCOL_ERROR, "unknown opcode")
        if (opcode == CONTINUATION) != (self._opcode != CONTINUATION):
            raise ProtocolError(PROTOCOL_ERROR, "fragments are out of order")
        if size + len(self._message or b"") > self.max_size:
            raise ProtocolError(TOO_BIG, "message too big")

    def _join(self, opcode: int, payload: bytes, is_last: bool) -> tuple[int, str | bytes]:
        """Return the message that a fragment completes, or FRAGMENT. A text fails at the first bad UTF-8."""
        if opcode != CONTINUATION:
            self._opcode = opcode
            self._decoder = _Utf8Decoder() if opcode == TEXT else None
        message = self._message = self._message or bytearray()
        message += payload
        if self._decoder:
            try:
                self._decoder.decode(payload, is_last)
            except UnicodeDecodeError:
                raise ProtocolError(INVALID_TEXT, "invalid UTF-8") from None
        if not is_last:
            return FRAGMENT
        opcode, self._opcode, self._message, self._decoder = self._opcode, CONTINUATION, None, None
        return opcode, _text(message) if opcode == TEXT else bytes(message)


def _long_size(form: int, octets: bytes | bytearray) -> int:
    size = int.from_bytes(octets)
    if size < (126 if form == 126 else 65536) or size >> 63:
        raise ProtocolError(PROTOCOL_ERROR, "a length is not in its shortest form")
    return size


def _unmasked(payload: bytes | bytearray, mask: bytes | bytearray) -> bytes:
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size])
    return (int.from_bytes(payload) ^ key).to_bytes(size)
