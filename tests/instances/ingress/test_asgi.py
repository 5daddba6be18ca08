"""The ASGI application of the ingress endpoints responds as their Django views do."""

from __future__ import annotations

import pytest

from tests.environment import GLOBAL_KEY


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/event/publish/nobody", b'{"event": "call", "data": 1}', {}),
        ("/event/publish/nobody", b"{", {}),
        ("/event/publish/nobody", b"{}", {"apikey": "wrong"}),
        ("/webhook/evolution", b"{", {}),
        ("/webhook/evolution", b"{}", {"apikey": ""}),
        ("/webhook/evolution", b'{"numberId": "nobody"}', {}),
        ("/webhook/meta", b"{}", {}),
        ("/webhook/meta", b"{}", {"X-Hub-Signature-256": "sha256=x"}),
    ],
)
def test_an_endpoint_responds_as_its_django_view_does(server, client, db, path, body, headers):
    sent = {"apikey": GLOBAL_KEY, "Origin": "https://panel.example"} | headers
    by_asgi = server.request("POST", path, body, key=None, headers=sent)
    by_view = client.post(path, body, content_type="application/json", headers=sent)

    assert (by_asgi.status, by_asgi.body) == (by_view.status_code, by_view.content)
    ignored = {"date", "connection", "content-length"}
    got, expected = (
        {name.lower(): value for name, value in response.headers.items() if name.lower() not in ignored}
        for response in (by_asgi, by_view)
    )
    assert got == expected


def test_a_request_for_another_host_is_refused(server):
    response = server.post("/webhook/evolution", {"numberId": "1"}, headers={"Host": "evil.example"})
    assert response.status == 400
    assert "ALLOWED_HOSTS" in response.json["response"]["message"][0]


@pytest.mark.any_database
def test_only_pages_of_allowed_origins_may_read_responses(start_server):
    server = start_server(CORS_ORIGIN="https://panel.example")
    for origin, expected in [("https://panel.example", "https://panel.example"), ("https://evil.example", None)]:
        response = server.post("/webhook/evolution", {}, headers={"Origin": origin})
        assert response.headers["Access-Control-Allow-Origin"] == expected
