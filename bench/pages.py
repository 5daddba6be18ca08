"""The time that pages of the admin take with many rows: `make bench-pages`.

10,000 instances with a million events, deliveries, messages, contacts and chats, on SQLite; with TEST_DATABASE=postgres
on PostgreSQL at DATABASE_URL. The time is the least of three requests, with the work of the database.
"""

from __future__ import annotations

import time

import django

import tests.environment  # noqa: F401 (sets the variables that Django's settings read)

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import setup_databases, setup_test_environment, teardown_databases  # noqa: E402

from tests.realtime.admin import many_rows  # noqa: E402
from tests.realtime.admin.work import work_of  # noqa: E402

SHOWN = 20


def main() -> None:
    setup_test_environment()
    databases = setup_databases(verbosity=0, interactive=False)
    try:
        client = Client()
        client.force_login(User.objects.create_superuser("root"))
        shops = many_rows.fill()
        times = {}
        for url in ["/admin/", *many_rows.lists(), *many_rows.filters_and_searches(shops)]:
            times[url] = min(_milliseconds(client, url) for _ in range(3))
        unit = "instructions" if connection.vendor == "sqlite" else "blocks"
        print(f"The slowest {SHOWN} of {len(times)} pages on {connection.vendor}:")
        for url, took in sorted(times.items(), key=lambda item: -item[1])[:SHOWN]:
            print(f"{took:5.0f} ms  {work_of(client, url):>9,} {unit}  {url}")
    finally:
        teardown_databases(databases, verbosity=0)


def _milliseconds(client: Client, url: str) -> float:
    began = time.perf_counter()
    assert client.get(url).status_code == 200
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
