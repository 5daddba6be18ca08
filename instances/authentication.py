"""What a key opens: its own instances, and there what its scopes say. No cookie opens anything here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from instances.crypto import digests, is_same
from instances.errors import NotFound, Refused
from instances.models import ApiKey, Instance

if TYPE_CHECKING:
    from rest_framework.views import APIView

LISTEN, READ, SEND, PUBLISH, MANAGE = ApiKey.Scope.values
ALL_SCOPES = frozenset(ApiKey.Scope.values)


@dataclass(frozen=True)
class Access:
    """What one valid key opens. Made anew from the database for every request and every join."""

    scopes: frozenset[str]
    #: The global key's, or an ApiKey's that is for all instances.
    is_for_all: bool = False
    is_global: bool = False
    #: An instance's own token opens that instance (and its namesakes in token).
    token_digests: tuple[str, ...] = ()
    key: ApiKey | None = field(default=None, repr=False)

    def opens(self, instance: Instance) -> bool:
        if self.is_for_all:
            return True
        if self.key:
            return self.key.opens(instance)
        return instance.token_digest in self.token_digests

    def may(self, scope: str) -> bool:
        return scope in self.scopes

    def renewed(self) -> Access | None:
        """The same access as of now, or None once its key is revoked or expired."""
        if self.key is None:
            return self
        key = ApiKey.objects.usable().filter(pk=self.key.pk).first()
        return self._of_key(key) if key else None

    @classmethod
    def _of_key(cls, key: ApiKey) -> Access:
        return cls(frozenset(key.scopes), is_for_all=key.all_instances, key=key)

    @classmethod
    def of(cls, secret: str) -> Access | None:
        """The access that this key gives, if it is one."""
        if not secret:
            return None  # whatever is stored: an empty text is no key
        if is_same(secret, settings.AUTHENTICATION_API_KEY):
            return cls(ALL_SCOPES, is_for_all=True, is_global=True)
        marks = tuple(digests(_clean(secret)))
        key = ApiKey.objects.usable().filter(digest__in=marks).first()
        if key:
            key.was_used()
            return cls._of_key(key)
        if Instance.objects.filter(token_digest__in=marks).exists():
            return cls(ALL_SCOPES, token_digests=marks)
        return None


def _clean(secret: str) -> str:
    return secret.encode(errors="replace").decode()


class ApiKeyAuthentication(BaseAuthentication):
    """The header `apikey`. An absent, empty or wrong one is answered in one way, whatever the path names."""

    def authenticate(self, request: Request) -> tuple[None, Access]:
        access = Access.of(request.headers.get("apikey", ""))
        if access is None:
            raise AuthenticationFailed
        return None, access

    def authenticate_header(self, request: Request) -> str:
        return "apikey"


class MayUseInstance(BasePermission):
    """The instance is the path's and nobody else's; the view finds it as `request.instance`.

    A key that is not for all instances learns nothing of names it does not own: unknown and foreign ones are
    refused as a wrong key is.
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
            raise Refused(f"This key may not {scope}", status_code=403)
        return True


class GlobalKeyOnly(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        if not (isinstance(request.auth, Access) and request.auth.is_global):
            raise AuthenticationFailed
        return True
