"""Admin pages that show a secret once, after it was created."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from instances.admin.base import ClosedAdmin, admin_url
from instances.crypto import UnreadableSecret, decrypt, encrypt


def explain_unreadable(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Have a view of an object redirect to the list, with the reason, if one of its secrets cannot be read."""

    @wraps(view)
    def explained(page: Any, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(page, request, object_id, *args, **kwargs)
        except UnreadableSecret as error:
            page.message_user(request, f"A secret cannot be read. {error}.", messages.ERROR)
            return HttpResponseRedirect(admin_url("changelist", page.model))

    return explained


class SecretAdmin(ClosedAdmin):
    """Redirect to a page that shows the secret of an added object once; an encrypted cookie carries it there."""

    COOKIE = "shown_once"
    secret_name: str
    secret_note: str

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.secret_view)
        name = f"{self.opts.app_label}_{self.opts.model_name}_secret"
        return [path("<path:object_id>/secret/", view, name=name), *super().get_urls()]

    def get_changeable(self, request: HttpRequest, object_id: str) -> Any:
        """Return the object of a POST button. Raises PermissionDenied, or Http404 if it does not exist."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        obj = self.get_object(request, object_id)
        if obj is None:
            raise Http404
        return obj

    @explain_unreadable
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return super().change_view(request, object_id, form_url, extra_context)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Show a single save button, as the page with the secret always follows."""
        one_button = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().add_view(request, form_url, one_button | (extra_context or {}))

    def show_once(self, request: HttpRequest, obj: Model, secret: str) -> HttpResponse:
        """Return a redirect to the secret's page, so that reloading it does not repeat the POST."""
        url = admin_url("secret", self.model, obj.pk)
        response = HttpResponseRedirect(url)
        response.set_cookie(
            self.COOKIE,
            # bound to user and URL: a text that was encrypted for another one, or for another purpose, is not shown
            encrypt(f"{request.user.pk}:{url} {secret}"),
            max_age=60,
            path=url,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Strict",
        )
        return response

    def secret_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        secret = self._secret_from_cookie(request)
        obj = self.get_object(request, object_id)
        if secret is None or obj is None:
            return HttpResponseRedirect(admin_url("change", self.model, object_id))
        self.log_change(request, obj, f"Showed the {self.secret_name.lower()}.")
        response = self.secret_page(request, obj, secret)
        response.delete_cookie(self.COOKIE, path=request.path, samesite="Strict")
        return response

    def secret_page(self, request: HttpRequest, obj: Model, secret: str) -> HttpResponse:
        context = self.admin_site.each_context(request) | {
            "title": f"{self.secret_name} of {obj}",
            "opts": self.opts,
            "original": obj,
            "secret": secret,
            "note": self.secret_note,
            "has_view_permission": self.has_view_or_change_permission(request, obj),
        }
        return TemplateResponse(request, "admin/instances/secret.html", context)

    def _secret_from_cookie(self, request: HttpRequest) -> str | None:
        try:
            purpose, _, secret = decrypt(request.COOKIES.get(self.COOKIE, "")).partition(" ")
        except ValueError:
            return None
        return secret if purpose == f"{request.user.pk}:{request.path}" else None
