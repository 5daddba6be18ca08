"""A staff user of the admin of a running server: a session and forms over HTTP, without a browser."""

from __future__ import annotations

import http.client
import secrets
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from django.urls import reverse

from tests.server import Response, Server

#: Begins a session of `user`, without the form, which hashes a password; prints the session's key.
SESSION = """
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
session = SessionStore()
session[SESSION_KEY], session[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session.save()
print(session.session_key)
"""
#: Creates a user with permissions, and begins a session.
LOGGED_IN = (
    """
from django.contrib.auth.models import Permission, User
user = User.objects.create(username={name!r}, is_staff=True, is_superuser={is_superuser!r}, password={password!r})
user.user_permissions.set(Permission.objects.filter(codename__in={codenames!r}))
"""
    + SESSION
)


def url(page: str, model: str, *args: object) -> str:
    """Return the path of a page of the admin: url("change", "instances_apikey", 1)."""
    return reverse(f"admin:{model}_{page}", args=args)


class Staff:
    """A new user who is logged in and has these permissions (codenames); `**user` are fields of the user."""

    def __init__(self, server: Server, *codenames: str, is_superuser: bool = False) -> None:
        self.server = server
        self.name = f"staff-{secrets.token_hex(4)}"
        # an unusable password, which nobody has to hash
        fields = {"is_superuser": is_superuser, "password": f"!{secrets.token_hex(20)}"}
        key = server.shell(LOGGED_IN.format(name=self.name, codenames=codenames, **fields)).strip()
        self.cookies = {"sessionid": key, "csrftoken": secrets.token_hex(16)}

    def get(self, path: str) -> Response:
        return self._request("GET", path)

    def post(self, path: str, form: dict[str, object] | None = None) -> Response:
        """Post a form; the values of lists are sent one by one. Redirects are not followed."""
        fields = (form or {}) | {"csrfmiddlewaretoken": self.cookies["csrftoken"]}
        return self._request("POST", path, urlencode(fields, doseq=True))

    def _request(self, method: str, path: str, body: str | None = None) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        headers |= {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        for cookie in response.headers.get_all("Set-Cookie", []):
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(cookie).items()}
        return Response(response.status, content, response.headers)
