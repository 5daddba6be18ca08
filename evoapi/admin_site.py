"""The site of the admin: django-unfold's, without inline styles."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.http import HttpRequest, HttpResponse
from unfold.sites import UnfoldAdminSite


class AdminSite(UnfoldAdminSite):
    site_title = site_header = "evoapi"
    index_title = "Overview"

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Leave out the colours, which unfold writes into a <style> of each page: instances/admin.css has them."""
        return super().each_context(request) | {"colors": None}

    def search(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Search everything, in place of unfold's search, which keeps what it found for five minutes.

        By then the user may have lost the right to see it.
        """
        from realtime.admin.search import search_page  # its pages register with this site, which has to be there

        return search_page(request)

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Let a user change his own password, and record it in his history as the change by another user is."""
        user: Any = request.user
        before = user.password
        response = super().password_change(request, extra_context)
        if user.password != before:
            LogEntry.objects.log_actions(user.pk, [user], CHANGE, "Changed his own password.")
        return response
