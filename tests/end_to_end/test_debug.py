"""The error page with DEBUG=true shows no secrets."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

pytestmark = pytest.mark.any_database


def test_the_error_page_hides_secrets(fresh_server):
    server = fresh_server(
        DEBUG="true",
        RABBITMQ_URI="amqp://guest:S3CRET-broker@127.0.0.1/vhost",
        WEBHOOK_GLOBAL_URL="https://user:S3CRET-password@hooks.example/?token=S3CRET-token",
        WEBHOOK_GLOBAL_SECRET="whsec_S3CRETS3CRETS3CRETS3CRETS3CRETS3CRET",
        WA_BUSINESS_TOKEN_WEBHOOK="S3CRET-verify-token",
    )
    cookie = server.get("/admin/login/").headers["Set-Cookie"].partition(";")[0]
    token = cookie.partition("=")[2]
    form = {"username": "x", "password": "S3CRET-login", "csrfmiddlewaretoken": token}
    headers = {"Cookie": f"{cookie}; sessionid=S3CRET-session", "Content-Type": "application/x-www-form-urlencoded"}
    server.shell("from django.db import connection; connection.cursor().execute('ALTER TABLE auth_user RENAME TO x')")

    path = "/admin/login/?token=S3CRET-query&apikey=S3CRET-apikey"
    for accept in ("text/html", "text/plain"):
        sent = headers | {"Accept": accept}
        response = server.request("POST", path, urlencode(form).encode(), key="S3CRET-header", headers=sent)
        assert response.status == 500
        assert b"OperationalError" in response.body
        assert b"EVENT_RETENTION_HOURS" in response.body, "it is Django's page"
        page = response.body.decode()
        assert "S3CRET" not in page, page[page.index("S3CRET") - 300 :][:400]
        assert token not in page
    assert "S3CRET" not in server.log.read_text()
