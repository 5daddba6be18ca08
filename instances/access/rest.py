"""Authentication and permissions of the REST routes, for Django REST framework."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed, NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from instances.access.access import Access
from instances.access.client_address import client_address
from instances.access.rate_limit import failed_authentications
from instances.errors import ApiError, NotFound
from instances.models import Instance

if TYPE_CHECKING:
    from rest_framework.views import APIView


def authentication_error(address: str) -> APIException:
    """Return the error for a wrong key: 401, or 429 after too many from one address."""
    if failed_authentications.allows(address):
        return AuthenticationFailed()
    return ApiError("Too many wrong keys from this address; try again later", status_code=429)


def address_of(request: Request) -> str:
    """Return the address of the client, behind trusted proxies too."""
    return client_address(request.META.get("REMOTE_ADDR", ""), request.META.get("HTTP_X_FORWARDED_FOR", ""))


class ApiKeyAuthentication(BaseAuthentication):
    """Authentication by the header `apikey`. An absent, an empty and a wrong key get the same response on all paths."""

    def authenticate(self, request: Request) -> tuple[None, Access]:
        access = Access.from_key(request.headers.get("apikey", ""))
        if access is None:
            raise authentication_error(address_of(request))
        return None, access

    def authenticate_header(self, request: Request) -> str:
        return "apikey"


class MayUseInstance(BasePermission):
    """Permission for the instance that the path names, which the view finds as `request.instance`.

    A key that is not for all instances learns nothing of names it does not own: unknown and foreign ones get the
    response of a wrong key.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        access = request.auth
        if not isinstance(access, Access):
            raise NotAuthenticated
        name = view.kwargs.get("name")
        if name is not None:
            instance = Instance.objects.filter(name=name).first() if "\x00" not in name else None
            if instance is None and access.is_for_all:
                raise NotFound(f'The "{name}" instance does not exist')
            if instance is None or not access.opens(instance):
                raise AuthenticationFailed
            request.instance = instance  # type: ignore[attr-defined]
        scope = getattr(view, "scope", None)
        if scope and not access.may(scope):
            raise ApiError(f"This key may not {scope}", status_code=403)
        return True


class GlobalKeyOnly(BasePermission):
    """Permission for the global key alone."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not (isinstance(request.auth, Access) and request.auth.is_global):
            raise AuthenticationFailed
        return True
