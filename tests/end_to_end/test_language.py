"""API and pages are English, whatever a client prefers; the log, too: see test_log.py."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.any_database

LANGUAGES = {"Accept-Language": "pt-BR,de;q=0.9,ar;q=0.8"}
#: Requests that DRF, Django and we answer with words of our own or theirs, which Django has translations of.
REQUESTS = [
    ("POST", "/instance/create", {}, True),
    ("POST", "/instance/create", b"{", True),
    ("POST", "/instance/create", {"instanceName": "x" * 1000, "integration": "NONE"}, True),
    ("POST", "/message/sendText/{}", {"number": 5, "text": ["x"]}, True),
    ("DELETE", "/chat/findMessages/{}", None, True),
    ("GET", "/instance/connectionState/{}", None, False),
    ("GET", "/nowhere", None, True),
    ("GET", "/webhook/deliveries/{}?limit=many", None, True),
    ("GET", "/admin/login/", None, False),
]


@pytest.mark.parametrize(("method", "path", "body", "with_key"), REQUESTS)
def test_an_answer_is_the_same_in_every_language(server, method, path, body, with_key):
    path = path.format(server.create().name)
    options = {} if with_key else {"key": None}
    plain = server.request(method, path, body, **options)
    preferring = server.request(method, path, body, headers=LANGUAGES, **options)

    assert preferring.status == plain.status
    assert _text(preferring) == _text(plain)
    assert "Content-Language" not in preferring.headers or preferring.headers["Content-Language"] == "en"


def test_a_cookie_does_not_choose_one_either(server):
    chosen = server.get("/admin/login/", key=None, headers={**LANGUAGES, "Cookie": "django_language=pt-br"})
    assert '<html lang="en' in chosen.body.decode()
    assert "Log in" in chosen.body.decode()


def _text(response):
    """Return the body without what differs from request to request, such as the token against CSRF."""
    lines = response.body.decode().splitlines()
    return [line for line in lines if "csrfmiddlewaretoken" not in line]
