"""Views that ask the Graph API, and wait for it in a thread; they hold no connection to the database meanwhile."""

from __future__ import annotations

from collections.abc import Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from django.db import close_old_connections, connection

from instances.api.views import ChannelView, unavailable
from instances.errors import not_connected
from instances.models import Instance
from instances.outbound.client import http_client
from instances.providers import providers
from instances.providers.cloud_api_graph import GraphApi, GraphError

T = TypeVar("T")


class GraphView(ChannelView):
    """A view that only instances of the Cloud API serve."""

    #: True if an instance that is logged out is refused.
    needs_connection = True

    def graph_of(self, instance: Instance) -> GraphApi:
        """Return the requests that can be made for an instance. Raises ApiError if there are none."""
        provider = providers().get(instance.integration)
        if provider is None or provider.graph is None:
            raise unavailable(instance)
        if self.needs_connection and instance.logged_out_at:
            raise not_connected(instance.name)
        return provider.graph


def ask(request: Coroutine[Any, Any, T]) -> T:
    """Make a request of `GraphApi` and return its result. Raises GraphError."""
    if not connection.in_atomic_block:
        close_old_connections()  # returns the connection to the pool meanwhile
    try:
        return http_client.run(request)
    except CancelledError:
        raise GraphError("The server was stopped", 503) from None
