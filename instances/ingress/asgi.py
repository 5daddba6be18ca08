"""The ASGI application of the ingress endpoints: a request goes from here to queue.py and on to batch.py.

It stores many requests by one commit, and passes neither Django's middleware nor its views; the gate in front of it
adds the headers that those would. view.py serves the same endpoints wherever evoapi's URLs are deployed in another way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from instances import errors
from instances.access.gate import is_allowed_host
from instances.asgi import (
    Application,
    AsgiHeaders,
    ClientDisconnected,
    Receive,
    Scope,
    Send,
    peer_of,
    read_body,
    respond,
)
from instances.ingress.endpoint import IngressEndpoint, IngressRequest, IngressResponse, error_response
from instances.ingress.queue import IngressQueue

logger = logging.getLogger(__name__)


class IngressRouter:
    """Route POST requests to ingress endpoints, and all other requests to `other`.

    Expects bodies to be limited in size by an application in front of it (see `BodyLimit`).
    """

    def __init__(self, endpoints: Iterable[IngressEndpoint], other: Application) -> None:
        self.endpoints = list(endpoints)
        self.other = other
        self.queue = IngressQueue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = self.request_to(scope)
        if request is None or not is_allowed_host(request.headers.get("host", "")):  # Django refuses another host
            await self.other(scope, receive, send)
            return
        try:
            request.body = await read_body(receive)
        except ClientDisconnected:
            return
        response = await self._respond_to(request)
        length = str(len(response.body)).encode()
        response_headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await respond(send, response.status, response_headers, response.body)

    def request_to(self, scope: Scope) -> IngressRequest | None:
        """Return the request to an ingress endpoint, without its body; None if it is not to one."""
        if scope["method"] == "POST":
            for endpoint in self.endpoints:
                name = endpoint.match(scope["path"])
                if name is not None:
                    headers = AsgiHeaders(scope["headers"])
                    return IngressRequest(endpoint, scope["path"], name, headers, peer_of(scope), b"")
        return None

    async def _respond_to(self, request: IngressRequest) -> IngressResponse:
        try:
            return await self.queue.submit(request)
        except Exception as error:
            response = error_response(request, error)
            if response is None:
                logger.exception("%s has failed", request.path)
                response = IngressResponse(500, errors.error_response(500, "Internal Server Error").content)
            return response
