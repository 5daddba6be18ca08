"""Admission of requests: a large body is read for a key that may post it, and no body while the writer lags behind."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from django.db import close_old_connections
from django.urls import Resolver404, resolve
from rest_framework.exceptions import APIException

from instances.access.access import Access
from instances.access.cache import AccessCache
from instances.access.client_address import client_address
from instances.access.rest import ApiKeyAuthentication, authentication_error
from instances.asgi import AsgiHeaders, Scope, peer_of
from instances.bounds import WRITER_LAG
from instances.errors import DATABASE_ERRORS, database_error
from instances.ingress.asgi import IngressRouter
from instances.ingress.held_bytes import held_bytes

#: Seconds in which the database has to say whether a key is valid.
TIMEOUT = 10


class Admission:
    """Decides about requests to an `IngressRouter`, and the Django views behind it, by their heads."""

    def __init__(self, router: IngressRouter) -> None:
        self.router = router
        # one thread, as `AccessCache` needs: it takes all requests that wait together
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="admission")
        self._cache = AccessCache()
        self._waiting: list[tuple[Scope, asyncio.Future[Access | None]]] = []
        self._task: asyncio.Task[None] | None = None

    def check_writer(self, scope: Scope) -> None:
        """Raise Overloaded for a request to an ingress endpoint while others wait too long for the writer."""
        lag = self.router.queue.lag
        if lag > WRITER_LAG and self.router.request_to(scope):
            raise held_bytes.refusal(f"the oldest of the requests that are to be stored waits {lag:.0f} s")

    async def authorize(self, scope: Scope) -> Access | None:
        """Return the access of the request's key, None where no key is needed.

        Raises APIException for a key that may not post there, and for a missing one.
        """
        future: asyncio.Future[Access | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((scope, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._authorize_waiting())
        try:
            async with asyncio.timeout(TIMEOUT):
                return await future
        except TimeoutError:
            raise held_bytes.refusal("the database does not say whether the key is valid") from None

    async def _authorize_waiting(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            scopes = [scope for scope, _ in waiting]
            results = await asyncio.get_running_loop().run_in_executor(self._thread, self._results, scopes)
            for (_, future), result in zip(waiting, results, strict=True):
                if future.done():  # the client has waited too long
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _results(self, scopes: list[Scope]) -> list[Access | Exception | None]:
        """Return the access of each request, or the error that refuses it."""
        close_old_connections()
        try:
            self._cache.renew()
            return [self._result(scope) for scope in scopes]
        except DATABASE_ERRORS as error:
            return [database_error(error)] * len(scopes)
        finally:
            close_old_connections()

    def _result(self, scope: Scope) -> Access | Exception | None:
        request = self.router.request_to(scope)
        try:
            return request.endpoint.authorize(request, self._cache) if request else self._access_to_view(scope)
        except DATABASE_ERRORS as error:
            return database_error(error)
        except APIException as error:
            return error

    def _access_to_view(self, scope: Scope) -> Access | None:
        try:
            view = resolve(scope["path"]).func
        except Resolver404:
            return None
        # an APIView's; the admin, and what else a project serves, authenticate in ways of their own
        if ApiKeyAuthentication not in getattr(getattr(view, "cls", None), "authentication_classes", ()):
            return None
        headers = AsgiHeaders(scope["headers"])
        access = self._cache.access(headers.get("apikey", ""))
        if access is None:
            raise authentication_error(client_address(peer_of(scope), headers.get("x-forwarded-for", "")))
        return access
