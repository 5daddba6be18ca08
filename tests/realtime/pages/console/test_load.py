"""The console under load, by Chromium's own trace: 1,000 events a second, and 100,000 rows."""

from __future__ import annotations

import json
import threading
import time

import pytest
from playwright.sync_api import expect

from tests.realtime.pages.console.test_browser import console

pytest_plugins = ("tests.browser",)

pytestmark = [pytest.mark.any_database, pytest.mark.slow]

RATE, SECONDS = 1000, 10
ROWS = 100_000
#: Events of one request.
BATCH = 500


def message(number):
    key = {"remoteJid": f"55119{number % 500:08}@s.whatsapp.net", "fromMe": False, "id": f"M{number:020}"}
    text = {"conversation": f"Message {number}: " + "lorem ipsum dolor sit amet " * 8}
    data = {"key": key, "pushName": f"Ana {number % 97}", "message": text, "messageType": "conversation"}
    return {"event": "messages.upsert", "data": data | {"messageTimestamp": 1761057627}}


def publish(server, instance, first, last):
    for begin in range(first, last, BATCH):
        body = [message(number) for number in range(begin, min(begin + BATCH, last))]
        assert server.post(server.path("/event/publish", instance), body).status == 201


def publish_at_rate(server, instance):
    begun = time.monotonic()
    for step in range(SECONDS * RATE // 100):  # ten times a second
        publish(server, instance, step * 100, (step + 1) * 100)
        time.sleep(max(0, begun + (step + 1) / 10 - time.monotonic()))


def longest_task(trace):
    """Return the milliseconds of the longest task of a page's main thread.

    They are those of its own work: on a machine that does other things, too, a task also takes what it is left waiting.
    """
    events = json.loads(trace)["traceEvents"]
    names = [event for event in events if event.get("name") == "thread_name"]
    mains = {(event["pid"], event["tid"]) for event in names if event["args"]["name"] == "CrRendererMain"}
    tasks = [event for event in events if event.get("ph") == "X" and event["name"].endswith("RunTask")]
    tasks = [event for event in tasks if (event["pid"], event["tid"]) in mains]
    times = [event["tdur"] for event in tasks if "tdur" in event]
    assert len(tasks) - len(times) <= 1  # that which had begun before the trace has none
    return max(times) / 1000


@pytest.mark.timeout(400)
@pytest.mark.stall(1000)  # the server is loaded on purpose
def test_no_task_takes_long_and_100_000_rows_fit_into_memory(admin_page, server):
    page = admin_page
    instance = server.create()
    console(page, server, instance)
    browser = page.context.browser
    browser.start_tracing(page=page, categories=["toplevel"])
    feed = threading.Thread(target=publish_at_rate, args=(server, instance))
    feed.start()
    while feed.is_alive():
        page.locator("#text").fill("lorem")  # filtered anew while they come
        page.wait_for_timeout(500)
        page.locator("#text").fill("")
        page.wait_for_timeout(500)
    expect(page.locator("#count")).to_have_text(f"{RATE * SECONDS + 1:,}", timeout=20_000)  # with instance.create
    assert longest_task(browser.stop_tracing()) < 200
    expect(page.locator("#missed")).to_have_text("0")

    publish(server, instance, RATE * SECONDS, ROWS + 3 * BATCH)
    expect(page.locator("#shown")).to_contain_text("older ones were let go", timeout=60_000)
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    assert used < 200_000_000, f"{used / 1e6:.0f} MB"
    browser.start_tracing(page=page, categories=["toplevel"])
    page.locator("#text").fill("Message 99999:")
    expect(page.locator(".row:visible")).to_have_count(1, timeout=10_000)
    assert longest_task(browser.stop_tracing()) < 200
