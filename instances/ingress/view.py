"""The view of an endpoint."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from instances import errors
from instances.ingress.batch import enter
from instances.ingress.endpoint import IngressRequest, Visit, refusal


@method_decorator(csrf_exempt, name="dispatch")
class IngressView(View):
    door: Any = None

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        view = super().as_view(**initkwargs)
        view.openapi_view = initkwargs.get("door", cls.door).openapi_view  # type: ignore[attr-defined] # a function's
        return view

    def post(self, request: HttpRequest, name: str = "") -> HttpResponse:
        call = IngressRequest(request.path, name, request.headers, request.META.get("REMOTE_ADDR", ""), request.body)
        try:
            answer = enter(Visit(self.door, call))
        except Exception as error:
            known = refusal(call, error)
            if known is None:
                raise
            answer = known
        return HttpResponse(answer.body, status=answer.status, content_type="application/json")

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return errors.not_found(request, Http404())
