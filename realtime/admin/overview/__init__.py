"""The first page of the admin: what is wrong now, and charts of the last 24 hours."""

from realtime.admin.overview.page import dashboard

__all__ = ["dashboard"]
