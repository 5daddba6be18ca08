"""Checks of a page in Chromium. A module beside tests/browser.py, whose fixtures pytest loads as a plugin."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.conftest import missing
from tests.server import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
#: A script that takes the clipboard from a page's scripts, as browsers do for all but https and localhost.
NO_CLIPBOARD = "Object.defineProperty(navigator, 'clipboard', { value: undefined })"


def check_page(page: Page) -> None:
    """Assert that the page has no serious findings of axe-core, and at a width of 360 pixels no sideways scrolling."""
    if not AXE.exists():
        missing("axe-core is not installed")
    page.evaluate(AXE.read_text())  # not by a script element, which the Content-Security-Policy forbids
    _check_by_axe(page, "{resultTypes: ['violations']}")
    size = page.viewport_size
    assert size is not None
    page.set_viewport_size({"width": 360, "height": 740})
    widths = page.evaluate(WIDTHS)
    page.set_viewport_size(size)
    assert widths["page"] <= 360, f"{page.url} is {widths['page']} px wide: {widths['widest']}"


def check_colours(page: Page) -> None:
    """Assert that a page that was checked has enough contrast in the scheme of colours that it has by now."""
    _check_by_axe(page, "{resultTypes: ['violations'], runOnly: ['color-contrast']}")


def _check_by_axe(page: Page, options: str) -> None:
    found = page.evaluate(f"axe.run({options})")
    serious = [
        f"{finding['id']} ({finding['help']}): {[node['html'][:200] for node in finding['nodes'][:3]]}"
        for finding in found["violations"]
        if finding["impact"] in ("serious", "critical")
    ]
    assert not serious, "\n".join([page.url, *serious])


#: Returns the width of the page, and the beginning of the elements that are wider than the window.
WIDTHS = """() => {
    const wide = [...document.body.querySelectorAll('*')].filter((element) => {
        const box = element.getBoundingClientRect();
        return box.width && box.right > innerWidth + 1;
    });
    return {
        page: document.scrollingElement.scrollWidth,
        widest: wide.slice(0, 5).map((element) => element.outerHTML.slice(0, 120)),
    };
}"""
