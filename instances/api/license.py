"""Evolution API's licence routes, as answered by a server that needs no licence and asks no licence server."""

from __future__ import annotations

from typing import TypedDict

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.api.examples import example_response
from instances.models import Installation

_ACTIVE = {"status": "active", "message": "License is already active"}


class LicenseState(TypedDict):
    status: str
    instance_id: str


class LicenseIsActive(TypedDict):
    status: str
    message: str


class PublicView(APIView):
    """A view that needs no key."""

    authentication_classes = ()
    permission_classes = ()


class LicenseStatus(PublicView):
    @extend_schema(
        responses={200: LicenseState},
        examples=[example_response({"status": "active", "instance_id": "7b1f6a0e-2c56-4a5e-9f0d-0d7d3f1c9a11"})],
    )
    def get(self, request: Request) -> Response:
        """Return that the licence is active: there is none. `instance_id` is random, and that of this installation."""
        return Response({"status": "active", "instance_id": str(Installation.current().identifier)})


class RegisterLicense(PublicView):
    @extend_schema(
        parameters=[OpenApiParameter("redirect_uri")],
        responses={200: LicenseIsActive},
        examples=[example_response(_ACTIVE)],
    )
    def get(self, request: Request) -> Response:
        """Return that there is nothing to register."""
        return Response(_ACTIVE)


class ActivateLicense(PublicView):
    @extend_schema(
        parameters=[OpenApiParameter("code")],
        responses={200: LicenseIsActive},
        examples=[example_response(_ACTIVE)],
    )
    def get(self, request: Request) -> Response:
        """Return that there is nothing to activate."""
        return Response(_ACTIVE)
