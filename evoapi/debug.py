"""Django's error pages with DEBUG=true, without secrets: whoever reads them is not always the operator."""

from __future__ import annotations

import re
from collections.abc import ItemsView
from types import FrameType
from typing import Any

from django.http import HttpRequest
from django.views.debug import ExceptionReporter, SafeExceptionReporterFilter

from instances.crypto import mask_keys


class ReporterFilter(SafeExceptionReporterFilter):
    """Hides what Django hides, URLs that may have a password or token in them, and what requests and variables hold.

    Local variables hold instances' tokens, webhooks' headers and whole requests under any name, so none is shown.
    """

    hidden_settings = re.compile(
        f"{SafeExceptionReporterFilter.hidden_settings.pattern}|URI|URL|DSN|DATABASES|COOKIE|CREDENTIAL|QUERY_STRING",
        re.IGNORECASE,
    )

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        return {} if request is None else dict.fromkeys(request.POST, self.cleansed_substitute)

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> ItemsView[str, Any]:
        return dict.fromkeys(tb_frame.f_locals, self.cleansed_substitute).items()


class Reporter(ExceptionReporter):
    """Masks the keys in a request's query and in the exception's text."""

    def get_traceback_data(self) -> dict[str, Any]:
        data: dict[str, Any] = super().get_traceback_data()
        for name in ("request_insecure_uri", "exception_value", "exception_notes", "unicode_hint"):
            if data.get(name):
                data[name] = mask_keys(data[name])
        if self.request is not None:
            data["request_GET_items"] = [(name, self.filter.cleansed_substitute) for name in self.request.GET]
        return data
