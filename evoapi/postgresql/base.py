"""A PostgreSQL backend that fails at once while the database is unavailable, and notices soon that it is back.

psycopg's pool would let each caller wait for its full timeout, four threads at a time, and would reconnect at growing
intervals, up to minutes.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, ClassVar

from django.db.backends.postgresql import base
from psycopg import OperationalError, connect

from instances.bounds import LOCK_SECONDS

logger = logging.getLogger(__name__)

#: Seconds between two attempts to connect to a database that is unavailable; there is one attempt at a time.
RETRY_INTERVAL = 0.25


class DatabaseWrapper(base.DatabaseWrapper):
    is_away: ClassVar[bool] = False
    _tried_at: ClassVar[float] = 0.0
    _trying: ClassVar[threading.Lock] = threading.Lock()

    def _configure_connection(self, connection: Any) -> bool:
        """Configure a new connection of the pool: a transaction that waits for another one's lock fails in the end."""
        super()._configure_connection(connection)  # type: ignore[misc]
        # not as an option of the connection, which pgbouncer would refuse
        connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        return True

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if not self.pool:
            return super().get_new_connection(conn_params)
        if self.is_away:
            self._check(conn_params)
        try:
            return super().get_new_connection(conn_params)
        except OperationalError:
            self._check(conn_params)
            raise  # the database is available, but all connections of the pool are in use

    def _check(self, conn_params: dict[str, Any]) -> None:
        """Raise OperationalError while the database is unavailable; one thread per RETRY_INTERVAL tries to connect."""
        shared = DatabaseWrapper
        if not shared._trying.acquire(blocking=False):
            raise OperationalError("The database is away")
        try:
            if shared.is_away and time.monotonic() < shared._tried_at + RETRY_INTERVAL:
                raise OperationalError("The database is away")
            try:
                connect(**conn_params).close()
            except OperationalError as error:
                if not shared.is_away:
                    logger.error("The database is away: %s", error)
                shared.is_away = True
                shared._tried_at = time.monotonic()
                raise
            if shared.is_away:
                logger.warning("The database is back")
            shared.is_away = False
        finally:
            shared._trying.release()
