"""The site of the admin: django-unfold's, without inline styles."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from unfold.sites import UnfoldAdminSite


class AdminSite(UnfoldAdminSite):
    site_title = site_header = "evoapi"
    index_title = "Overview"

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Leave out the colours, which unfold writes into a <style> of each page: instances/admin.css has them."""
        return super().each_context(request) | {"colors": None}
