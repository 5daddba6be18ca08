"""The states of a message and the steps between them, by which sends, repeats, time-outs and status reports all go."""

from __future__ import annotations

from enum import StrEnum


class MessageState(StrEnum):
    """The state of a message. Those of a send without a result come first; a send that is refused leaves no message."""

    #: The request to WhatsApp is under way.
    SENDING = "SENDING"
    #: WhatsApp may have the message or not: its answer did not come, could not be read, or was an error of a proxy.
    UNKNOWN = "UNKNOWN"
    #: Nothing was reported: a received message, one that was sent from the phone, or one that an engine is to send.
    UNREPORTED = ""
    #: WhatsApp has accepted the message.
    PENDING = "PENDING"
    #: The message has left WhatsApp.
    SENT = "SENT"
    #: WhatsApp could not deliver it. What was delivered has not failed, whatever is reported first.
    FAILED = "FAILED"
    #: It has arrived at a device; in a group, at one of the participants'.
    DELIVERED = "DELIVERED"
    READ = "READ"
    #: A voice message was listened to.
    PLAYED = "PLAYED"


_S = MessageState

#: The states that each state may change to; a report of any other is announced, and changes nothing.
STEPS: dict[MessageState, frozenset[MessageState]] = {
    _S.SENDING: frozenset({_S.UNKNOWN, _S.UNREPORTED, _S.PENDING}),
    _S.UNKNOWN: frozenset({_S.SENDING, _S.UNREPORTED, _S.PENDING}),
    _S.UNREPORTED: frozenset({_S.PENDING, _S.SENT, _S.FAILED, _S.DELIVERED, _S.READ, _S.PLAYED}),
    _S.PENDING: frozenset({_S.SENT, _S.FAILED, _S.DELIVERED, _S.READ, _S.PLAYED}),
    _S.SENT: frozenset({_S.FAILED, _S.DELIVERED, _S.READ, _S.PLAYED}),
    _S.FAILED: frozenset({_S.DELIVERED, _S.READ, _S.PLAYED}),
    _S.DELIVERED: frozenset({_S.READ, _S.PLAYED}),
    _S.READ: frozenset({_S.PLAYED}),
    _S.PLAYED: frozenset(),
}

#: The states by the words that report them, Meta's and WhatsApp Web's. A message keeps the word it was reported with.
REPORTED = {
    "PENDING": _S.PENDING,
    "SENT": _S.SENT,
    "SERVER_ACK": _S.SENT,
    "FAILED": _S.FAILED,
    "ERROR": _S.FAILED,
    "DELIVERED": _S.DELIVERED,
    "DELIVERY_ACK": _S.DELIVERED,
    "READ": _S.READ,
    "PLAYED": _S.PLAYED,
}


def reported_state(word: str | None) -> MessageState:
    """Return the state that a word reports; UNREPORTED for one that no state has, such as DELETED."""
    return REPORTED.get(word or "", MessageState.UNREPORTED)


def is_step(before: MessageState, after: MessageState) -> bool:
    """Return whether a message may change from one state to another."""
    return after in STEPS[before]
