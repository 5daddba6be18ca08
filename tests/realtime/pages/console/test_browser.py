"""The live console in a browser: the stock client, tokens of the session, and what a reload finds again."""

from __future__ import annotations

import json
import re
import secrets
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.page_checks import check_page

pytest_plugins = ("tests.browser",)

pytestmark = pytest.mark.any_database

MARKUP = '<b>fat</b> <img src="/missing" onerror="document.title = \'run\'">'


def console(page: Page, server, instance, query=""):
    page.goto(f"/console/{quote(instance.name, safe='')}{query}")
    expect(page.locator("#state")).to_have_text("Live")


def rows(page: Page, text: str):
    return page.locator(".row:visible", has_text=text)


@pytest.mark.slow
def test_events_are_shown_as_they_arrive_filtered_paused_and_opened(admin_page, server):
    instance = server.create(f"loja não é 100% {secrets.token_hex(4)}")
    server.receive(instance, "before the page was opened")
    page = admin_page
    console(page, server, instance)
    expect(rows(page, "before the page was opened")).to_have_count(1)
    server.receive(instance, MARKUP, id="WITH-MARKUP")
    expect(rows(page, MARKUP)).to_have_count(1)
    expect(page.locator("#latency")).to_have_text(re.compile(r"^[\d.]+ m?s$"))

    # markup is text, in the list and in the JSON, which folds
    rows(page, MARKUP).click()
    expect(page.locator("#detail-json")).to_contain_text("onerror=")
    assert page.locator("#console b, #console img").count() == 0
    expect(page.locator("#detail-audience")).to_contain_text(re.compile("Sockets were to receive it; [1-9]"))
    text = page.locator("#detail-json").get_by_text("conversation", exact=True)
    expect(text).to_be_visible()
    page.locator("#detail-json summary", has_text="message:").click()
    expect(text).not_to_be_visible()
    assert page.title() != "run"
    check_page(page)
    page.keyboard.press("Escape")

    # filters stand in the URL
    page.locator("#types summary").click()
    page.get_by_label("messages.upsert").check()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("fat")
    expect(page.locator(".row:visible")).to_have_count(1)
    expect(page.locator("#shown")).to_contain_text("1 of")
    assert page.url.endswith("?type=messages.upsert&text=fat")
    page.reload()
    expect(page.locator(".row:visible")).to_have_count(1)
    expect(page.locator("#state")).to_have_text("Live")
    page.locator("#text").fill("")
    page.get_by_label("Chat", exact=True).fill("98888")
    expect(page.locator(".row:visible")).to_have_count(2)
    expect(page).to_have_url(re.compile(r"\?type=messages\.upsert&chat=98888$"))

    # the view stands still while it is paused
    page.locator("#list").focus()
    page.keyboard.press(" ")
    server.receive(instance, "while it was paused")
    expect(page.locator("#pausing-text")).to_have_text("Paused: 1 new")
    expect(page.locator(".row:visible")).to_have_count(2)
    page.keyboard.press(" ")
    expect(rows(page, "while it was paused")).to_have_count(1)

    # keys walk through the rows, and to the page of an event
    page.keyboard.press("k")
    page.keyboard.press("k")
    expect(page.locator('.row[aria-selected="true"]')).to_contain_text("while it was paused")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("#detail-json")).to_contain_text("WITH-MARKUP")
    page.keyboard.press("e")
    expect(page.get_by_role("heading", name="Who received it, and why not")).to_be_visible()
    expect(page.locator("#envelope")).to_contain_text("onerror=")
    assert page.locator("main b, main img").count() == 0
    check_page(page)


def test_nothing_is_missing_after_the_line_was_cut_or_the_page_reloaded(admin_page, server):
    instance = server.create()
    page = admin_page
    server.receive(instance, "the first")
    console(page, server, instance)
    rows(page, "the first").click()
    page.context.set_offline(True)
    expect(page.locator("#state")).to_have_text("Offline")
    for number in range(3):
        server.receive(instance, f"offline {number}")
    page.context.set_offline(False)
    expect(page.locator("#state")).to_have_text("Live")
    expect(page.locator("#note")).to_contain_text("The session was resumed: nothing is missing.")
    expect(page.locator("#session")).to_have_text("resumed")
    for number in range(3):
        expect(rows(page, f"offline {number}")).to_have_count(1)

    before = page.locator(".row:visible").all_inner_texts()
    page.goto("about:blank")
    server.receive(instance, "while it was reloaded")
    page.go_back()
    expect(rows(page, "while it was reloaded")).to_have_count(1)
    expect(page.locator('.row[aria-selected="true"]')).to_contain_text("the first")
    expect(page.locator("#detail-json")).to_contain_text("the first")
    times = re.compile(r"\d\d:\d\d:\d\d\.\d+")
    shown = page.locator(".row:visible").all_inner_texts()
    assert [times.findall(text)[0] for text in shown[-len(before) :]] == [times.findall(text)[0] for text in before]
    expect(page.locator("#missed")).to_have_text("0")

    # what the page has missed is known by `prev`, and loaded on request
    page.evaluate(
        """() => {
            const { onevent } = io.Socket.prototype;
            io.Socket.prototype.onevent = function (packet) {
                if (!JSON.stringify(packet.data).includes("lost on the way")) onevent.call(this, packet);
            };
        }"""
    )
    server.receive(instance, "lost on the way")
    server.receive(instance, "behind the gap")
    gap = rows(page, "1 event was missed between")
    expect(gap).to_have_count(1)
    expect(page.locator("#missed")).to_have_text("1 gap")
    page.get_by_role("button", name="Pause").click()  # rows move down as others come
    gap.click()
    page.get_by_role("button", name="Go on").first.click()
    expect(rows(page, "lost on the way")).to_have_count(1)
    expect(page.locator("#missed")).to_have_text("0")


def test_states_of_deliveries_are_asked_for_all_rows_of_a_high_screen(admin_page, server):
    instance = server.create()
    events = [{"event": "labels.edit", "data": {"id": str(number)}} for number in range(120)]
    assert server.post(server.path("/event/publish", instance), events).status == 201
    admin_page.set_viewport_size({"width": 1280, "height": 5000})
    with admin_page.expect_request(lambda request: request.url.count("of=") > 110):
        console(admin_page, server, instance, "?type=labels.edit")
        admin_page.get_by_role("button", name="Load earlier events").click()


def end_session(page: Page, server):
    [key] = [cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "sessionid"]
    server.shell(f"from django.contrib.sessions.models import Session; Session.objects.get(pk={key!r}).delete()")


def test_messages_are_sent_and_the_socket_ends_with_the_session(admin_page, server):
    instance = server.create()
    page = admin_page
    console(page, server, instance)
    page.get_by_role("button", name="Send", exact=True).click()
    page.get_by_label("Number", exact=True).fill("5511988887777")
    page.get_by_label("Message", exact=True).fill("From the console")
    page.get_by_role("button", name="Send message").click()
    expect(page.locator("#send-result")).to_contain_text("send.message is emitted: the engine of this instance sends")
    expect(rows(page, "send.message")).to_have_count(1)
    server.request("DELETE", server.path("/instance/logout", instance))
    page.get_by_label("Message", exact=True).fill("To nobody")
    page.get_by_role("button", name="Send message").click()
    expect(page.locator("#send-result")).to_have_text(
        f'Nothing was sent: The "{instance.name}" instance is not connected'
    )

    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSONL").click()
    lines = download.value.path().read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines if "From the console" in line] == ["send.message"]

    end_session(page, server)
    expect(page.locator("#state")).to_have_text("Ended", timeout=4000)
    expect(page.locator("#note")).to_contain_text("You are logged out.")
    expect(page.get_by_role("link", name="Log in")).to_have_attribute(
        "href", re.compile(r"/admin/login/\?next=%2Fconsole")
    )


def log_in_as(page: Page, server, role: str, names: list[str]):
    """Log in as a new user with a role, limited to these instances."""
    username, password = f"{role}-{secrets.token_hex(4)}", secrets.token_urlsafe(16)
    server.shell(
        "from django.contrib.auth.models import User\n"
        "from instances.models import Instance, StaffRole\n"
        f"user = User.objects.create_user({username!r}, password={password!r}, is_staff=True)\n"
        f"row = StaffRole.objects.create(user=user, role={role!r}, is_limited=True)\n"
        f"row.instances.set(Instance.objects.filter(name__in={names!r}))"
    )
    page.context.clear_cookies()
    page.goto("/admin/login/?next=/console/")
    page.get_by_label("Username").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    return username


@pytest.mark.slow
def test_a_console_without_a_socket_leads_to_the_log_in_once_the_session_has_ended(page, server):
    log_in_as(page, server, "viewer", [server.create().name])
    expect(page.locator("#state")).to_have_text("Every 2 seconds")
    page.context.clear_cookies()
    expect(page.locator("#state")).to_have_text("Ended")
    expect(page.locator("#note")).to_have_text("You are logged out. Log in to go on where you were. Log in")
    expect(page.get_by_role("link", name="Log in")).to_have_attribute("href", "/admin/login/?next=%2Fconsole%2F")


@pytest.mark.slow
def test_a_limited_user_has_his_instances_alone_and_a_viewer_no_socket(page, server):
    mine, also_mine, foreign = server.create(), server.create(), server.create()
    username = log_in_as(page, server, "operator", [mine.name, also_mine.name])
    expect(page.locator("#state")).to_have_text("Live")
    for instance in (mine, also_mine, foreign):
        server.receive(instance, f"hello from {instance.name}")
    for instance in (mine, also_mine):
        expect(rows(page, f"hello from {instance.name}")).to_have_count(1)
    server.shell(
        "from instances.models import Instance, StaffRole\n"
        f"row = StaffRole.objects.get(user__username={username!r})\n"
        f"row.instances.remove(Instance.objects.get(name={also_mine.name!r}))"
    )
    expect(page.locator("#state")).to_have_text("Live: 1 of 2", timeout=4000)
    server.receive(mine, "still here")
    expect(rows(page, "still here")).to_have_count(1)
    assert foreign.name not in page.content()

    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    page.on("request", lambda request: sockets.append(request.url) if "/socket.io/" in request.url else None)
    log_in_as(page, server, "viewer", [mine.name])
    expect(page.locator("#state")).to_have_text("Every 2 seconds")
    expect(rows(page, "messages.upsert")).to_have_count(2)
    server.receive(mine, "not for viewers")
    expect(rows(page, "messages.upsert")).to_have_count(3)
    assert "still here" not in page.content()
    rows(page, "messages.upsert").first.click()
    page.get_by_role("link", name="Deliveries, send again").click()
    expect(page.get_by_role("heading", name="Who received it, and why not")).to_be_visible()
    assert "not for viewers" not in page.content()
    check_page(page)
    assert sockets == []
