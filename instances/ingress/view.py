"""The Django view of an ingress endpoint, for deployments without the ASGI application of asgi.py."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from instances import errors
from instances.ingress.batch import process
from instances.ingress.endpoint import IngressEndpoint, IngressRequest, error_response


@method_decorator(csrf_exempt, name="dispatch")
class IngressView(View):
    """Process a POST request in the thread of its caller and, if there is one, in the caller's transaction."""

    #: An IngressEndpoint: an argument of as_view(), or set by a subclass.
    endpoint: Any = None

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        endpoint = initkwargs.get("endpoint", cls.endpoint)
        if type(endpoint).get is IngressEndpoint.get:  # Allow is to list what the endpoint has
            initkwargs["http_method_names"] = ["post", "options"]
        view = super().as_view(**initkwargs)
        view.openapi_view = endpoint.openapi_view  # type: ignore[attr-defined] # a function's
        return view

    def get(self, request: HttpRequest, name: str = "") -> HttpResponse:
        return self.endpoint.get(request)

    def post(self, http_request: HttpRequest, name: str = "") -> HttpResponse:
        peer = http_request.META.get("REMOTE_ADDR", "")
        request = IngressRequest(self.endpoint, http_request.path, name, http_request.headers, peer, http_request.body)
        try:
            response = process(request)
        except Exception as error:
            expected = error_response(request, error)
            if expected is None:
                raise
            response = expected
        return HttpResponse(response.body, status=response.status, content_type="application/json")

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return errors.not_found(request, Http404())
