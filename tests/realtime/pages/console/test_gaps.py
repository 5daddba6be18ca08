"""Events that the live console misses: loaded on request, or come late. Each has one row, and none is hidden."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.realtime.pages.console.test_browser import console, rows

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database

#: The client loses events with "lost" in them, and holds those with "late" until `release(times)`.
LOSE = """() => {
    const { onevent } = io.Socket.prototype;
    const held = [];
    io.Socket.prototype.onevent = function (packet) {
        const text = JSON.stringify(packet.data);
        if (text.includes("late")) held.push([this, packet]);
        else if (!text.includes("lost")) onevent.call(this, packet);
    };
    window.release = (times = 1) => {
        for (; times; times--) for (const [socket, packet] of held) onevent.call(socket, packet);
    };
}"""


@pytest.fixture
def lossy(admin_page, server):
    """The console of a new instance, whose socket loses and delays events; and that instance."""
    instance = server.create()
    publish(server, instance, "before")
    console(admin_page, server, instance)
    admin_page.evaluate(LOSE)
    return admin_page, instance


def publish(server, instance, *names: str):
    events = [{"event": "labels.edit", "data": {"name": name}} for name in names]
    assert server.post(server.path("/event/publish", instance), events).status == 201


def open_gap(page: Page, text: str):
    page.get_by_role("button", name="Pause").click()  # rows move down as others come
    rows(page, text).click()
    page.get_by_role("button", name="Go on").first.click()


def test_a_gap_vanishes_once_all_of_it_has_come_late(lossy, server):
    page, instance = lossy
    publish(server, instance, "late", "behind it")
    expect(rows(page, "1 event was missed between")).to_have_count(1)
    expect(page.locator("#missed")).to_have_text("1 gap")
    page.evaluate("release(2)")
    expect(rows(page, "late")).to_have_count(1)
    expect(page.locator("#missed")).to_have_text("0")
    expect(rows(page, "missed between")).to_have_count(0)


def test_an_event_that_came_late_is_not_loaded_again(lossy, server):
    page, instance = lossy
    publish(server, instance, "late", "lost", "behind them")
    expect(rows(page, "Up to 2 events were missed")).to_have_count(1)
    page.evaluate("release(2)")
    expect(rows(page, "late")).to_have_count(1)
    open_gap(page, "Up to 2 events were missed")
    expect(page.locator("#note")).to_have_text("Loaded 1 missed event.")
    expect(rows(page, "lost")).to_have_count(1)
    expect(rows(page, "late")).to_have_count(1)
    expect(page.locator("#missed")).to_have_text("0")


def test_an_event_that_was_loaded_is_not_shown_again_when_it_comes(lossy, server):
    page, instance = lossy
    publish(server, instance, "late", "behind it")
    open_gap(page, "1 event was missed between")
    expect(page.locator("#note")).to_have_text("Loaded 1 missed event.")
    page.evaluate("release()")
    publish(server, instance, "the last")
    expect(rows(page, "the last")).to_have_count(1)
    expect(rows(page, "late")).to_have_count(1)


def test_a_gap_that_is_opened_behind_a_pause_says_that_its_events_have_come(lossy, server):
    page, instance = lossy
    publish(server, instance, "late", "behind it")
    gap = rows(page, "1 event was missed between")
    expect(gap).to_have_count(1)
    page.get_by_role("button", name="Pause").click()
    page.evaluate("release()")
    expect(page.locator("#missed")).to_have_text("0")
    gap.click()
    expect(page.locator("#note")).to_have_text("They came late, and are in the list.")
    expect(page.locator("#pausing-text")).to_have_text("Paused: 1 new")
    page.get_by_role("button", name="Go on").first.click()
    expect(rows(page, "late")).to_have_count(1)


@pytest.mark.slow
@pytest.mark.stall(1000)  # the server is loaded on purpose
def test_a_large_gap_is_loaded_in_parts(lossy, server):
    page, instance = lossy
    number = 10_500
    for _ in range(number // 500):
        publish(server, instance, *["lost"] * 500)
    publish(server, instance, "behind them")
    expect(rows(page, f"Up to {number} events were missed")).to_have_count(1)
    open_gap(page, f"Up to {number} events were missed")
    expect(page.locator("#note")).to_have_text(
        "Loaded 10,000 missed events. Those that are still missing have a row of their own."
    )
    expect(page.locator("#missed")).to_have_text("1 gap")
    open_gap(page, "Up to 500 events were missed")
    expect(page.locator("#note")).to_have_text("Loaded 500 missed events.")
    expect(page.locator("#missed")).to_have_text("0")
    expect(page.locator("#count")).to_have_text(f"{number + 3:,}")  # with instance.create, and those around


def test_a_gap_that_cannot_be_read_now_keeps_its_row(lossy, server):
    page, instance = lossy
    publish(server, instance, "lost", "behind it")
    page.route("**/events?after=*", lambda route: route.fulfill(json={"events": [], "hasMore": True}))
    open_gap(page, "1 event was missed between")
    expect(page.locator("#note")).to_have_text("They cannot be read now. Open the row again later.")
    page.unroute_all()
    open_gap(page, "1 event was missed between")
    expect(rows(page, "lost")).to_have_count(1)
    expect(page.locator("#missed")).to_have_text("0")


def test_events_of_a_log_that_began_anew_are_not_taken_for_missed_ones(lossy, server):
    page, instance = lossy

    def answer(route):
        page = route.fetch().json()
        for event in page["events"]:
            event["id"] = f"{'0' * 16}.{event['seq']}"
        route.fulfill(json=page)

    publish(server, instance, "lost", "behind it")
    page.route("**/events?after=*", answer)
    open_gap(page, "1 event was missed between")
    expect(page.locator("#note")).to_have_text("The missed events are not kept any more, or cannot be read now.")
    expect(page.locator("#missed")).to_have_text("0")
    expect(rows(page, "lost")).to_have_count(0)
