"""The documents in Chromium."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.page_checks import NO_CLIPBOARD, check_page

pytest_plugins = ("tests.browser",)


@pytest.mark.slow
@pytest.mark.any_database
def test_documents_are_found_read_and_copied(page, server):
    references = ("events/", "events/messages.upsert", "rest/", "rest/webhook")
    for path in ("", *references, "guides/verifying-webhooks/", "guides/settings/"):
        page.goto(f"/docs/{path}")
        check_page(page)

    page.keyboard.press("/")
    page.get_by_label("Search the documents").fill("sendtext")
    page.get_by_role("link", name="POST /message/sendText/{name}").click()
    page.wait_for_url("**/docs/rest/message#SendText")

    page.get_by_label("Search the documents").fill('The "loja" instance does not exist')
    page.get_by_role("link", name='The "…" instance does not exist').click()
    page.wait_for_url("**/docs/guides/troubleshooting/#*")
    page.get_by_label("Search the documents").fill("limit_wrong_keys_per")
    page.get_by_role("link", name="LIMIT_WRONG_KEYS_PER_SECOND").click()
    page.wait_for_url("**/docs/guides/limits/#limit_wrong_keys_per_second")

    page.goto("/docs/events/call#transports")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = page.get_by_role("button", name="Copy").first  # those in closed folds have no role
    text = button.locator("xpath=preceding-sibling::pre").text_content()
    button.click()
    expect(page.get_by_role("button", name="Copied")).to_have_count(1)
    assert page.evaluate("navigator.clipboard.readText()") == text != ""


@pytest.mark.any_database
def test_code_is_copied_over_http_too(page, server):
    page.add_init_script(NO_CLIPBOARD)
    page.goto("/docs/events/call#transports")
    block = page.locator("article .code:visible").first
    button = block.get_by_role("button")
    button.click()
    expect(button).to_have_text("Copied")
    expect(button).to_be_focused()
    expect(button).to_have_text("Copy")
    search = page.get_by_label("Search the documents")
    search.press("Control+V")
    assert search.input_value().split() == block.locator("pre").text_content().split()
