"""The causes of failed attempts: a short word for each, by which failures are grouped, with a title and a cure."""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus

from instances.numbers import whole_number

#: What the causes of responses with a status begin with.
_STATUS = "http-"

#: The code of deliveries whose cause is not stored: an earlier version ended them.
UNKNOWN = ""


class Cause(Enum):
    """A cause: its code, which is stored, its title, and the advice for whoever is to remove it."""

    REFUSED = "refused", "The connection was refused", "Nothing listens at the URL's host and port: start the receiver"
    UNREACHABLE = "unreachable", "The host cannot be reached", "Check the host, its firewall and the network between"
    BROKEN = "broken", "The connection broke", "The receiver or a proxy ended it: its log may say why"
    TIMEOUT = "timeout", "There was no answer in time", "Have the receiver answer before it works on the event"
    NAME = "name", "The host was not found", "Check the URL's spelling and the host's DNS record"
    BLOCKED = "not-public", "The address is not public", "Allow its network by WEBHOOK_ALLOWED_NETWORKS if it is yours"
    CERTIFICATE = "certificate", "The certificate is not valid", "Renew it, or give the URL the name it was made for"
    TLS = "tls", "There was no encrypted connection", "Check that the port speaks TLS, or give an http URL if allowed"
    REDIRECT = "redirect", "The answer was a redirect", "Give the endpoint the URL that it leads to"
    GARBLED = "garbled", "The answer was not HTTP, or broke off", "Check what answers at this port"
    REQUEST = "request", "The request could not be made", "Check the endpoint's URL, headers and secrets"
    SECRETS = "secrets", "The endpoint's secrets cannot be read", "Start the server with the key that encrypted them"
    BROKER = "broker", "The broker did not take it", "Check that RabbitMQ runs and takes messages"
    UNREADABLE = "unreadable", "Its rows cannot be read", "The server's log names the rows"
    FAILED_HERE = "failed-here", "It failed in this server", "The server's log says how"
    OFF = "endpoint-off", "Its endpoint was switched off or gone", "Switch the endpoint on, then retry"
    TRANSPORT_OFF = "transport-off", "Its transport was switched off", "Switch the transport on, then retry"
    OTHER = "other", "Another cause", "The example's attempts say more"
    #: Not sent by itself any more: a copy was.
    RESENT = "resent", "It was sent again as another delivery", ""

    def __init__(self, code: str, title: str, cure: str) -> None:
        self.code = code
        self.title = title
        self.cure = cure


_BY_CODE = {cause.code: cause for cause in Cause}

#: Advice by status, and by its class.
_CURES = {
    401: "The receiver does not know the request: check the endpoint's headers and signing secret",
    403: "The receiver does not allow it: check the endpoint's headers and signing secret",
    404: "Nothing is at the URL's path: check its spelling, and byEvents, which extends it",
    405: "The URL's path takes no POST: check its spelling",
    410: "The receiver says that it wants no more: the endpoint is switched off",
    413: "The receiver takes no body of this size: raise its limit",
    429: "The receiver asks for a pause: it is sent less at a time while it fails",
}
_CURES_OF_CLASS = {4: "The receiver refuses the request: its log may say why", 5: "The receiver fails: see its log"}


def of_status(status: int) -> str:
    """Return the cause of an attempt that was answered with this HTTP status."""
    return f"{_STATUS}{status}"


def title(cause: str) -> str:
    """Return what happened, a sentence without a full stop."""
    if cause in _BY_CODE:
        return _BY_CODE[cause].title
    status = _status(cause)
    if status is None:
        return "The cause was not stored, as an earlier version did"
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def cure(cause: str) -> str:
    """Return what to do about a cause, a sentence without a full stop."""
    if cause in _BY_CODE:
        return _BY_CODE[cause].cure
    status = _status(cause)
    if status is None:
        return "The example's attempts say more"
    return _CURES.get(status) or _CURES_OF_CLASS.get(status // 100, "The receiver's log may say why")


def _status(cause: str) -> int | None:
    number = cause.removeprefix(_STATUS)
    return whole_number(number) if cause.startswith(_STATUS) else None
