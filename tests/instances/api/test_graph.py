"""Routes that the Cloud API can serve: Meta is asked with the instance's own token, and its words are passed on."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiohttp import web

from tests.instances.providers.graph_api import Graph, error, hang_up
from tests.server import Number, Response, Server

ANA = "5511988887777"
COMPONENTS = [{"type": "BODY", "text": "Olá {{1}}"}]
TEMPLATE = {"name": "hello", "category": "UTILITY", "language": "pt_BR", "components": COMPONENTS}
KEY = {"id": "wamid.1", "fromMe": False, "remoteJid": f"{ANA}@s.whatsapp.net"}
#: Routes that wait for Meta, each with a valid body.
WAITING = [
    ("POST", "/template/create", TEMPLATE),
    ("POST", "/template/edit", {"templateId": "123"}),
    ("DELETE", "/template/delete", {"name": "hello"}),
    ("GET", "/template/find", None),
    ("POST", "/chat/markMessageAsRead", {"readMessages": [KEY]}),
    ("POST", "/chat/updateBlockStatus", {"number": ANA, "status": "block"}),
    ("POST", "/chat/fetchBusinessProfile", {}),
    ("POST", "/chat/updateProfileStatus", {"status": "Open"}),
]

#: The body of the answer to a template that Meta refuses.
REFUSAL = {
    "status": 400,
    "error": "Bad Request",
    "message": "Name taken",
    "details": {
        "whatsapp_error": "Choose another name",
        "whatsapp_code": 100,
        "error_user_title": "Name taken",
        "error_user_msg": "Choose another name",
        "error_type": "OAuthException",
        "error_subcode": 2388023,
        "fbtrace_id": "Az8or2yhqkZfEZ-_4Qn_Bam",
        "context": "template_creation",
        "type": "whatsapp_api_error",
    },
}


@pytest.fixture(scope="module")
def server(environment: dict[str, str], running_graph: Graph) -> Iterator[Server]:
    """A server that is configured with the URL of our Graph API."""
    settings = {"WA_BUSINESS_URL": running_graph.url, "WA_BUSINESS_VERSION": "v21.0"}
    server = Server(environment | settings | {"LIMIT_TEMPLATES": "200", "LIMIT_SEND_SECONDS": "1"})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def cloud(server: Server) -> Number:
    return server.create(integration="WHATSAPP-BUSINESS", businessId=str(secrets.randbelow(10**12) + 10**12))


def success() -> web.Response:
    return web.json_response({"success": True})


def created(id: str = "594425479261596") -> web.Response:
    return web.json_response({"id": id, "status": "PENDING", "category": "UTILITY"})


def call(server: Server, instance: Number, method: str, route: str, body: Any = None) -> Response:
    return server.request(method, server.path(route, instance), body, key=instance.token)


def business_of(server: Server, instance: Number) -> str:
    return server.get("/instance/fetchInstances", key=instance.token).json[0]["businessId"]


# Templates


def test_a_template_is_created_at_meta_and_stored(server, graph, cloud):
    graph.next(created())
    body = TEMPLATE | {"allowCategoryChange": True, "webhookUrl": "https://hook.example/x"}
    response = call(server, cloud, "POST", "/template/create", body)

    [asked] = graph.requests
    assert (asked.method, asked.path) == ("POST", f"/v21.0/{business_of(server, cloud)}/message_templates")
    assert (asked.token, asked.body) == (cloud.token, TEMPLATE | {"allow_category_change": True})
    assert response.status == 201
    assert response.headers["X-Ignored-Members"] == "webhookUrl"
    row = response.json
    assert row["template"] == {"id": "594425479261596", "status": "PENDING", "category": "UTILITY"}
    assert (row["templateId"], row["name"], row["instanceId"]) == ("594425479261596", "hello", cloud.id)
    assert row["webhookUrl"] == "https://hook.example/x"


def stored(server: Server, instance: Number) -> list[Any]:
    rows = f"Template.objects.filter(instance={instance.id!r}).values_list('template_id', 'state')"
    printed = server.shell(f"from instances.models import Template; print(sorted(map(list, {rows})))")
    return eval(printed)


def test_an_edit_reaches_meta_and_the_row(server, graph, cloud):
    graph.next(created("11"), success())
    call(server, cloud, "POST", "/template/create", TEMPLATE)
    body = {"templateId": "11", "category": "MARKETING", "ttl": 60, "components": COMPONENTS}
    response = call(server, cloud, "POST", "/template/edit", body)

    assert (response.status, response.json) == (200, {"success": True})
    assert graph.requests[-1].path == "/v21.0/11"
    assert graph.requests[-1].body == {"category": "MARKETING", "time_to_live": 60, "components": COMPONENTS}
    assert stored(server, cloud) == [["11", {"id": "11", "status": "PENDING", "category": "MARKETING"}]]


def test_a_deleted_template_is_forgotten_by_its_instance_alone(server, graph, cloud):
    other = server.create(integration="WHATSAPP-BUSINESS", businessId="1")
    graph.next(created("21"), created("22"), created("23"), success(), success())
    for instance in (cloud, cloud, other):
        assert call(server, instance, "POST", "/template/create", TEMPLATE).status == 201

    response = call(server, cloud, "DELETE", "/template/delete", {"name": "hello", "hsmId": "21"})
    assert (response.status, response.json) == (200, {"success": True})
    assert (graph.requests[-1].method, graph.requests[-1].query) == ("DELETE", {"name": "hello", "hsm_id": "21"})
    assert [id for id, _ in stored(server, cloud)] == ["22"]

    call(server, cloud, "DELETE", "/template/delete", {"name": "hello"})
    assert graph.requests[-1].query == {"name": "hello"}
    assert stored(server, cloud) == []
    assert [id for id, _ in stored(server, other)] == ["23"]
    assert call(server, other, "DELETE", "/instance/delete").status == 200
    assert stored(server, other) == []


def page(count: int, after: str | None) -> web.Response:
    """Return a page of templates; the URL of the next one is a trap."""
    paging = {"cursors": {"before": "x", "after": after}, "next": "http://127.0.0.1:1/trap"} if after else {}
    return web.json_response({"data": [{"name": f"template-{n}"} for n in range(count)], "paging": paging})


def test_the_templates_of_all_pages_are_found(server, graph, cloud):
    graph.next(page(50, "cursor-1"), page(5, None))
    response = call(server, cloud, "GET", "/template/find")

    assert response.status == 200
    assert len(response.json) == 55
    assert [asked.query for asked in graph.requests] == [{"limit": "50"}, {"limit": "50", "after": "cursor-1"}]


@pytest.mark.bound("LIMIT_TEMPLATES")
def test_more_templates_than_the_bound_are_not_listed_in_part(server, graph, cloud):
    graph.next(page(100, "1"), page(100, "2"), page(100, "3"))
    response = call(server, cloud, "GET", "/template/find")

    assert (response.status, len(graph.requests)) == (400, 3)
    assert "LIMIT_TEMPLATES" in response.json["message"]


def test_a_cursor_that_repeats_itself_ends_the_list(server, graph, cloud):
    graph.next(page(1, "same"), page(1, "same"))
    assert len(call(server, cloud, "GET", "/template/find").json) == 2


def test_a_refusal_has_metas_words_and_no_token(server, graph, cloud):
    text = f"(#100) Invalid parameter with {cloud.token}"
    words = {"error_user_title": "Name taken", "error_user_msg": "Choose another name", "error_subcode": 2388023}
    graph.next(error(400, 100, text, **words))
    response = call(server, cloud, "POST", "/template/create", TEMPLATE)

    refusal = response.json
    assert refusal.pop("timestamp").endswith("Z")
    assert (response.status, refusal) == (400, REFUSAL)
    assert stored(server, cloud) == []
    graph.next(error(400, 100, text))
    body = call(server, cloud, "GET", "/template/find").body
    assert b"Invalid parameter" in body
    assert cloud.token.encode() not in body


def test_an_invalid_template_is_refused_before_meta_is_asked(server, graph, cloud):
    response = call(server, cloud, "POST", "/template/create", TEMPLATE | {"category": "NEWS", "components": None})
    lines = [
        "category is not one of enum values: AUTHENTICATION,MARKETING,UTILITY",
        "components is not of a type(s) array",
    ]
    assert (response.status, response.json["message"], response.json["details"]["whatsapp_error"]) == (
        400,
        [lines],
        [lines],
    )
    long = [{"type": "BODY", "text": "x" * 65537}]
    edit = call(server, cloud, "POST", "/template/edit", {"templateId": "1", "components": long})
    assert edit.json["message"] == [["components does not meet maximum length of 65536"]]
    edit = call(server, cloud, "POST", "/template/edit", {"templateId": "../me"})
    assert edit.json["message"] == [['templateId does not match pattern "^\\\\d+$"']]
    assert graph.requests == []


@pytest.mark.parametrize(
    ("integration", "words"),
    [
        ("WHATSAPP-BAILEYS", "Method not available in the Baileys service"),
        ("EVOLUTION", "Method not available on Evolution Channel"),
    ],
)
def test_other_channels_have_no_templates(server, graph, integration, words):
    instance = server.create(integration=integration)
    for method, route, body in WAITING[:4]:
        response = call(server, instance, method, route, body)
        assert (response.status, response.json["message"]) == (400, words)
    for route in ("/business/getCatalog", "/business/getCollections"):
        refused = call(server, instance, "POST", route, {"number": ANA})
        assert (refused.status, refused.json["details"]["context"][:8]) == (400, "business")
        assert call(server, instance, "POST", route, {"number": 5}).json["message"] == [
            ["number is not of a type(s) string"]
        ]
    assert graph.requests == []


def test_an_instance_without_business_id_has_no_templates(server, graph):
    instance = server.create(integration="WHATSAPP-BUSINESS")
    response = call(server, instance, "GET", "/template/find")
    assert response.status == 400
    assert "businessId" in response.json["message"]
    assert graph.requests == []


# Chats and the profile


def receive(server: Server, instance: Number, *ids: str) -> None:
    """Receive messages of Ana's with these ids, a second apart."""
    about = {"from": ANA, "type": "text", "text": {"body": "Oi"}}
    messages = [about | {"id": id, "timestamp": str(1_700_000_000 + place)} for place, id in enumerate(ids)]
    value = {"metadata": {"phone_number_id": instance.number}, "messages": messages}
    entry = {"id": "1", "changes": [{"field": "messages", "value": value}]}
    assert server.post_meta({"object": "whatsapp_business_account", "entry": [entry]}).status == 200


def unread(server: Server, instance: Number) -> int:
    [chat] = server.post(server.path("/chat/findChats", instance), {}, key=instance.token).json
    return chat["unreadCount"]


def test_a_chat_is_read_once_its_last_message_is(server, graph, cloud):
    receive(server, cloud, "wamid.first", "wamid.last")
    for id, left in (("wamid.first", 2), ("wamid.last", 0)):
        graph.next(success())
        assert (
            call(server, cloud, "POST", "/chat/markMessageAsRead", {"readMessages": [KEY | {"id": id}]}).status == 201
        )
        assert unread(server, cloud) == left


def test_each_message_that_was_received_is_marked_as_read(server, graph, cloud):
    graph.next(success(), success())
    keys = [KEY, KEY | {"id": "wamid.2"}, KEY | {"id": "wamid.3", "fromMe": True}]
    response = call(server, cloud, "POST", "/chat/markMessageAsRead", {"readMessages": keys})

    assert (response.status, response.json) == (201, {"message": "Read messages", "read": "success"})
    assert {asked.path for asked in graph.requests} == {f"/v21.0/{cloud.number}/messages"}
    bodies = sorted((asked.body for asked in graph.requests), key=lambda body: body["message_id"])
    assert bodies == [
        {"messaging_product": "whatsapp", "status": "read", "message_id": id} for id in ("wamid.1", "wamid.2")
    ]


@pytest.mark.bound("LIMIT_READ_MESSAGES")
def test_too_many_messages_to_mark_are_refused_at_once(server, graph, cloud):
    keys = [KEY | {"id": f"wamid.{n}"} for n in range(101)]
    response = call(server, cloud, "POST", "/chat/markMessageAsRead", {"readMessages": keys})
    assert response.json["response"]["message"] == [["readMessages does not meet maximum length of 100"]]
    assert graph.requests == []


def test_typing_is_shown_as_the_answer_to_the_last_message_received(server, graph, cloud):
    typing = {"number": ANA, "presence": "composing", "delay": 60000}
    refused = call(server, cloud, "POST", "/chat/sendPresence", typing)
    assert refused.status == 400
    assert "none from this number is stored" in refused.json["response"]["message"][0]

    receive(server, cloud, "wamid.first", "wamid.last")
    assert unread(server, cloud) == 2
    graph.next(success())
    response = call(server, cloud, "POST", "/chat/sendPresence", typing)

    assert (response.status, response.json) == (201, {"presence": "composing"})
    read = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.last"}
    assert graph.requests[-1].body == read | {"typing_indicator": {"type": "text"}}
    assert unread(server, cloud) == 0
    others = call(server, cloud, "POST", "/chat/sendPresence", typing | {"presence": "available"})
    assert others.json["response"]["message"][0] == "Method not available on WhatsApp Business API"


def test_people_are_blocked_and_unblocked(server, graph, cloud):
    graph.next(web.json_response({"block_users": {"added_users": [{"input": ANA}]}}), success())
    for status, method in (("block", "POST"), ("unblock", "DELETE")):
        response = call(server, cloud, "POST", "/chat/updateBlockStatus", {"number": f"+{ANA}", "status": status})
        assert (response.status, response.json) == (201, {"block": "success"})
        asked = graph.requests[-1]
        assert (asked.method, asked.path) == (method, f"/v21.0/{cloud.number}/block_users")
        assert asked.body == {"messaging_product": "whatsapp", "block_users": [{"user": ANA}]}
    graph.next(web.json_response({"block_users": {"failed_users": [{"input": ANA}]}}))
    failed = call(server, cloud, "POST", "/chat/updateBlockStatus", {"number": ANA, "status": "block"})
    assert (failed.status, failed.json["response"]["message"][0]) == (400, "Error blocking user")


def test_the_own_profile_is_found_and_its_text_changed(server, graph, cloud):
    profile = {"about": "Open", "websites": ["https://loja.example"], "vertical": "RETAIL", "email": "a@loja.example"}
    graph.next(web.json_response({"data": [profile]}), success())
    found = call(server, cloud, "POST", "/chat/fetchBusinessProfile", {}).json
    assert (found["isBusiness"], found["about"], found["website"]) == (True, "Open", ["https://loja.example"])
    assert (found["category"], found["email"], found["address"]) == ("RETAIL", "a@loja.example", None)
    foreign = call(server, cloud, "POST", "/chat/fetchBusinessProfile", {"number": "5511"})
    assert foreign.json["response"]["message"] == ["Method not available on WhatsApp Business API"]

    response = call(server, cloud, "POST", "/chat/updateProfileStatus", {"status": "Closed"})
    assert (response.status, response.json) == (200, {"update": "success"})
    assert graph.requests[-1].path == f"/v21.0/{cloud.number}/whatsapp_business_profile"
    assert graph.requests[-1].body == {"messaging_product": "whatsapp", "about": "Closed"}


@pytest.mark.parametrize("integration", ["WHATSAPP-BAILEYS", "EVOLUTION"])
def test_other_channels_refuse_in_their_words(server, graph, integration):
    instance = server.create(integration=integration)
    typing = {"number": ANA, "presence": "composing", "delay": 1}
    for method, route, body in [*WAITING[4:], ("POST", "/chat/sendPresence", typing)]:
        response = call(server, instance, method, route, body)
        [words] = response.json["response"]["message"]
        assert response.status == 400
        assert words.startswith("Method not available" if integration == "EVOLUTION" else "The ")
    invalid = call(server, instance, "POST", "/chat/markMessageAsRead", {})
    assert invalid.json["response"]["message"] == [['instance requires property "readMessages"']]
    assert graph.requests == []


def test_an_instance_that_is_logged_out_asks_meta_for_nothing_of_its_number(server, graph, cloud):
    assert call(server, cloud, "DELETE", "/instance/logout").status == 200
    response = call(server, cloud, "POST", "/chat/markMessageAsRead", {"readMessages": [KEY]})
    words = [f'The "{cloud.name}" instance is not connected']
    assert (response.status, response.json["response"]["message"]) == (400, words)
    assert graph.requests == []


# Meta's failures


def test_a_graph_api_that_fails_is_not_an_error_of_this_server(server, graph, cloud):
    def words(response: Response) -> str:
        return str(response.json.get("message") or response.json["response"]["message"])

    for method, route, body in WAITING:
        graph.next(error(500, 2, "Service temporarily unavailable"), web.Response(text="<html>", status=200))
        refused, page = (call(server, cloud, method, route, body) for _ in range(2))
        graph.next(hang_up, hang_up)  # the client repeats a GET once
        closed = call(server, cloud, method, route, body)
        graph.forget()
        assert (refused.status, closed.status, page.status) == (502, 502, 502), route
        assert "temporarily unavailable" in words(refused)
        assert "did not answer" in words(closed)


def test_a_graph_api_that_is_silent_is_not_waited_for_without_end(server, graph, cloud):
    release = graph.held(success())
    response = call(server, cloud, "GET", "/template/find")
    release()
    assert (response.status, response.json["details"]["context"]) == (504, "template_find")


def test_requests_that_wait_for_meta_keep_no_other_view_and_no_connection(start_server, graph):
    server = start_server(WA_BUSINESS_URL=graph.url)
    numbers = [server.create(integration="WHATSAPP-BUSINESS", businessId="1") for _ in range(3)]
    calls = [(number, *route) for number in numbers for route in WAITING]
    releases = [graph.held(success()) for _ in calls]
    with ThreadPoolExecutor(len(calls)) as pool:
        waiting = [pool.submit(call, server, *each) for each in calls]
        for _ in calls:  # more than the other views have threads, and the pool connections
            assert graph.arrived.acquire(timeout=20)
        for number in numbers:
            assert server.get(server.path("/instance/connectionState", number), key=number.token).status == 200
        assert not any(future.done() for future in waiting)
        for release in releases:
            release()
        assert 503 not in {future.result().status for future in waiting}
    tokens = {number.number: number.token for number in numbers}
    of_numbers = [asked for asked in graph.requests if asked.path.split("/")[2] in tokens]
    assert all(asked.token == tokens[asked.path.split("/")[2]] for asked in of_numbers)
    assert {asked.token for asked in graph.requests} == set(tokens.values())
