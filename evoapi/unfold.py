"""The settings of django-unfold, the admin's theme. Its colours are in instances/static/instances/admin.css."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static


def icon(request: HttpRequest) -> str:
    """Return the URL of the icon."""
    return static("realtime/icon.svg")


def stylesheet(request: HttpRequest) -> str:
    """Return the URL of the styles that the admin has beyond unfold's."""
    return static("instances/admin.css")


def script(request: HttpRequest) -> str:
    """Return the URL of the script that the admin has beyond unfold's."""
    return static("instances/admin.js")


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "evoapi",
    "SITE_HEADER": "evoapi",
    "SITE_URL": None,
    "SITE_ICON": icon,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": icon}],
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [stylesheet],
    "SCRIPTS": [script],
    "DASHBOARD_CALLBACK": "realtime.admin.overview.dashboard",
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": "evoapi.navigation.navigation",
    },
}
