"""Failures of requests to endpoints, in a sentence for people and with their cause."""

from __future__ import annotations

import errno
import logging
import os
import ssl
from typing import NamedTuple

import aiohttp
from django.conf import settings

from instances.outbound import ssrf_guard
from realtime.delivery.causes import Cause

logger = logging.getLogger(__name__)

#: Errors of sockets that are shown to people, with their causes.
_SHOWN_ERRORS = {
    errno.ECONNREFUSED: Cause.REFUSED,
    errno.ECONNRESET: Cause.BROKEN,
    errno.EHOSTUNREACH: Cause.UNREACHABLE,
    errno.ENETUNREACH: Cause.UNREACHABLE,
    errno.ETIMEDOUT: Cause.TIMEOUT,
}


class Failure(NamedTuple):
    """The failure of an attempt: a sentence for people, without addresses of our network, and its cause."""

    text: str
    cause: Cause


class RedirectError(ValueError):
    """Raised for a redirect that is not followed; its text is for people."""


def describe(error: Exception, has_status: bool) -> Failure:
    """Return the failure that an error is. `has_status`: whether a response had begun."""
    match error:
        case RedirectError():
            return Failure(str(error), Cause.REDIRECT)
        case TimeoutError():
            missing = "complete answer" if has_status else "answer"
            seconds = settings.WEBHOOK_REQUEST_TIMEOUT_MS / 1000
            return Failure(f"There was no {missing} within {seconds:g} seconds", Cause.TIMEOUT)
        case aiohttp.ClientConnectorDNSError():
            return Failure("The host of the URL was not found", Cause.NAME)
        case aiohttp.ClientConnectorCertificateError():
            certificate = error.certificate_error
            reason = certificate.verify_message if isinstance(certificate, ssl.SSLCertVerificationError) else ""
            text = f"The certificate of the host is not valid: {reason}".removesuffix(": ")
            return Failure(text, Cause.CERTIFICATE)
        case aiohttp.ClientConnectorSSLError():
            return Failure("There was no encrypted connection to the host", Cause.TLS)
        case aiohttp.ClientConnectorError(os_error=ssrf_guard.BlockedAddress() as blocked):
            return Failure(str(blocked), Cause.BLOCKED)
        case aiohttp.ClientConnectorError():
            cause = _cause(error.os_error, Cause.UNREACHABLE)
            return Failure(f"There was no connection to the host{_reason(error.os_error)}", cause)
        case aiohttp.UploadAbortedError():
            return Failure("The connection broke before the event was sent completely", Cause.BROKEN)
        case aiohttp.ClientConnectionError():
            text = f"The connection broke before there was an answer{_reason(error)}"
            return Failure(text, _cause(error, Cause.BROKEN))
        case aiohttp.ClientPayloadError():
            return Failure("The answer broke off, or was garbled", Cause.GARBLED)
        case aiohttp.InvalidURL() | KeyError():
            return Failure("The URL cannot be sent to", Cause.REQUEST)
        case aiohttp.ClientResponseError():
            return Failure("The answer is not HTTP", Cause.GARBLED)
        case ValueError():
            return Failure("The request cannot be made of this URL, these headers and these secrets", Cause.REQUEST)
    logger.error("An attempt failed with an unforeseen error: %s", type(error).__name__)
    return Failure(f"The attempt failed: {type(error).__name__}", Cause.FAILED_HERE)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno in _SHOWN_ERRORS:
        return f": {os.strerror(error.errno)}"
    return ""


def _cause(error: BaseException, otherwise: Cause) -> Cause:
    return _SHOWN_ERRORS.get(error.errno or 0, otherwise) if isinstance(error, OSError) else otherwise


def drop_tracebacks(failure: BaseException) -> None:
    """Drop the frames of an error and its causes, which hold the request: errors are often part of a cycle.

    Garbage is collected seldom here, so thousands of failed attempts would keep their bodies for a while.
    """
    errors: list[BaseException | None] = [failure]
    while errors:
        error = errors.pop()
        if error is not None and error.__traceback__ is not None:
            error.__traceback__ = None
            errors += [error.__cause__, error.__context__]
