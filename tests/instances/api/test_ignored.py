"""Members that nothing reads: named by Evolution API's routes, refused by our own."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.any_database

HEADER = "X-Ignored-Members"


@pytest.fixture
def instance(server):
    return server.create()


def test_evolutions_routes_ignore_unknown_members_and_name_them_in_a_header(server):
    body = {
        "chatwootUrl": "https://very-secret",
        "qrcodes": True,
        "x\r\ny: z": 1,
        "websocket": {"enabled": True, "foo": 1},
    }
    response = server.post("/instance/create", {"instanceName": "ignored", "integration": "EVOLUTION"} | body)
    assert (response.status, response.headers[HEADER]) == (201, "chatwootUrl, qrcodes, x??y??z, foo")

    webhook = {"webhook": {"enabled": True, "url": "http://127.0.0.1/", "webhookByEvents": True, "evnts": []}}
    response = server.post("/webhook/set/ignored", webhook)
    assert (response.status, response.headers[HEADER]) == (201, "evnts")
    assert server.get("/instance/fetchInstances?instancename=x").headers[HEADER] == "instancename"
    assert server.get("/instance/fetchInstances").headers[HEADER] is None

    many = {f"member{number}" * 20: number for number in range(500)}
    response = server.post("/websocket/set/ignored", {"enabled": True} | many)
    assert response.status == 201
    assert len(response.headers[HEADER]) < 1000
    assert response.headers[HEADER].endswith(", ...")


def test_ignored_members_are_logged_once_an_hour_for_a_key_without_their_values(fresh_server):
    server = fresh_server()
    instance = server.create()
    for _ in range(3):
        body = {"enabled": True, "unheard": "very-secret"}
        server.post(server.path("/websocket/set", instance), body, key=instance.token)
    log = server.log.read_text()
    assert log.count("are ignored, nothing reads them: unheard") == 1
    assert "very-secret" not in log


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        (
            "POST",
            "/event/publish/{}",
            {"event": "call", "data": {}, "dedupekey": "x"},
            'no member "dedupekey"; the nearest is dedupeKey',
        ),
        ("POST", "/webhook/deliveries/{}/resend", {"states": ["dead"]}, 'no member "states"; the nearest is state'),
        (
            "POST",
            "/webhook/endpoints/{}",
            {"url": "http://127.0.0.1/", "by_event": True},
            'no member "by_event"; the nearest are byEvents',
        ),
        (
            "POST",
            "/webhook/test/{}",
            {"event": "call", "endpoints": 1},
            'no member "endpoints"; the nearest is endpoint',
        ),
        ("POST", "/websocket/token/{}", {"expires_in": 5}, 'no member "expires_in"; the nearest is expiresIn'),
        ("POST", "/instance/rotateToken/{}", {"tokn": "x"}, 'no member "tokn"; the nearest is token'),
        ("GET", "/event/find/{}?sinse=1", None, 'no parameter "sinse"; the nearest is since'),
        ("GET", "/webhook/deliveries/{}?status=dead", None, 'no parameter "status"; the nearest is state'),
    ],
)
def test_our_own_routes_refuse_unknown_members_with_the_nearest_names(server, instance, method, path, body, message):
    response = server.request(method, path.format(instance.name), body)
    assert response.status == 400, response.body
    assert message in response.json["response"]["message"][0][0]


def test_known_spellings_and_what_libraries_add_are_neither_refused_nor_told(server, instance):
    body = {"url": "http://127.0.0.1/", "webhook_by_events": True, "webhookBase64": False}
    assert server.post(server.path("/webhook/endpoints", instance), body).status == 201
    assert server.get(server.path("/event/find", instance) + "?_=1732439927512").status == 200


def test_json_that_is_called_a_form_is_refused_in_words(server, instance):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = server.post(server.path("/message/sendText", instance), b' {"text": "x"}', headers=headers)
    sentence = "The body is JSON, and its Content-Type says that it is a form: send application/json"
    assert (response.status, response.json["response"]["message"]) == (400, [sentence])


@pytest.mark.parametrize("path", ["/message/sendText", "/event/publish"])
def test_json_without_a_content_type_is_refused_in_words(server, instance, path):
    body = b'{"text": "x", "number": "5511988887777", "event": "call", "data": {}}'
    response = server.request("POST", server.path(path, instance), body, headers={"Content-Type": ""})
    sentence = 'Unsupported media type "" in request: send JSON, with Content-Type: application/json'
    assert (response.status, response.json["response"]["message"]) == (415, [sentence])
