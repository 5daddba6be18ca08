"""Concurrent use of the database, by threads with connections of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django.db import connection


def errors_in_threads(*functions: Callable[[], object]) -> list[BaseException]:
    """Run each function in a thread with its own database connection, all at once. Return the errors they raised."""
    errors: list[BaseException] = []

    def guarded(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


def in_threads(*functions: Callable[[], object]) -> None:
    """Run functions as `errors_in_threads` does. Raises the first of their errors."""
    if errors := errors_in_threads(*functions):
        raise errors[0]
