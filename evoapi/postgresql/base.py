"""A PostgreSQL backend that fails at once while the database is unavailable, and notices soon that it is back.

psycopg's pool would let each caller wait for its full timeout, four threads at a time, and would reconnect at growing
intervals, up to minutes.

libpq's buffers grow with the largest statement and row, and do not shrink. So a connection of the pool that was given a
large value is replaced.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, ClassVar

from django.db.backends.postgresql import base
from psycopg import OperationalError, connect

from evoapi.large_values import AT_ONCE, has_large
from instances.bounds import LOCK_SECONDS

logger = logging.getLogger(__name__)

#: Seconds between two looks at a database that is unavailable; one thread at a time looks.
RETRY_INTERVAL = 0.25
#: Seconds for which such a look waits for a connection of the pool.
POOL_TIMEOUT = 0.05


class DatabaseWrapper(base.DatabaseWrapper):
    is_away: ClassVar[bool] = False
    #: The time (time.monotonic) at which a connection of the pool last answered: each does before it is lent.
    _answered_at: ClassVar[float] = float("-inf")
    _tried_at: ClassVar[float] = 0.0
    _trying: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute_wrappers.append(self._look_at)

    def _look_at(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """Execute a statement, and note if it has large values."""
        rows = params if many else (params,)
        if params and isinstance(rows, (list, tuple)) and any(map(has_large, rows)):
            self.close_at = AT_ONCE
        return execute(sql, params, many, context)

    def _close(self) -> None:
        """Return the connection to the pool, which replaces it by another one if it is closed."""
        if self.close_at == AT_ONCE and self.connection is not None:
            self.connection.close()
        super()._close()  # type: ignore[misc]

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
            self._look(conn_params)
        began = time.monotonic()
        try:
            connection = super().get_new_connection(conn_params)
        except OperationalError:
            if DatabaseWrapper._answered_at < began:
                self._look(conn_params)
            raise  # the database is available, but all connections of the pool are in use
        DatabaseWrapper._answered_at = time.monotonic()
        return connection

    def _look(self, conn_params: dict[str, Any]) -> None:
        """Raise OperationalError while the database is unavailable; one thread per RETRY_INTERVAL looks."""
        shared = DatabaseWrapper
        if not shared._trying.acquire(blocking=False):
            raise OperationalError("The database is away")
        try:
            if shared.is_away and time.monotonic() < shared._tried_at + RETRY_INTERVAL:
                raise OperationalError("The database is away")
            try:
                self._connect(conn_params)
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

    def _connect(self, conn_params: dict[str, Any]) -> None:
        """Raise OperationalError if neither a connection of the pool answers nor a new one can be made.

        A new one may be refused while those of the pool are as good as before: there is no room for more, for example.
        """
        pool: Any = self.pool
        try:
            pool.open()
            pool.putconn(pool.getconn(POOL_TIMEOUT))
            return
        except OperationalError:
            pass  # all of them are in use, or broken
        try:
            connect(**conn_params).close()
        except OperationalError as error:
            if not _is_full(error):
                raise


def _is_full(error: OperationalError) -> bool:
    """Return whether PostgreSQL itself refused a connection, as it has no room; errors of connecting have no code."""
    return "FATAL" in str(error) and ("too many" in str(error) or "connection slots" in str(error))
