"""The options of clients that read events, which mean the same over sockets, server-sent events and REST."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.clients.raw import Raw
from tests.environment import GLOBAL_KEY
from tests.realtime.fanout.test_sse import Stream


@pytest.fixture
def instance(server):
    """An instance with twelve events."""
    instance = server.create()
    for text in ("first", "second", "third"):
        server.receive(instance, text)
    return instance


class Reader:
    """A client of one of the three kinds, which asks for the events of an instance."""

    def __init__(self, kind, server, instance):
        self.kind, self.server, self.instance = kind, server, instance
        self.opened = []

    def ask(self, **options):
        """Return the seqs of three events and None, or None and the error in words."""
        if self.kind == "socket":
            return self._ask_socket(options)
        query = "&".join(f"{name}={_in_query(value)}" for name, value in options.items())
        return self._ask_stream(query) if self.kind == "stream" else self._ask_rest(query)

    def _ask_socket(self, options):
        client = Raw(self.server.url)
        self.opened.append(client)
        kind, answer = client.join(f"/{self.instance.name}", {"apikey": self.instance.token, **options})
        if kind == "4":
            return None, answer["message"].removeprefix("auth.")
        return [client.event()[1]["seq"] for _ in range(3)], None

    def _ask_stream(self, query):
        stream = Stream(self.server, self.instance.name, f"?{query}", apikey=self.instance.token)
        self.opened.append(stream)
        if stream.status != 200:
            assert stream.status == 400
            return None, stream.json()["response"]["message"][0]
        events = (event for _, name, event in iter(stream.event, None) if name != "gap")
        return [next(events)["seq"] for _ in range(3)], None

    def _ask_rest(self, query):
        response = self.server.get(f"{self.server.path('/event/find', self.instance)}?{query}", key=self.instance.token)
        if response.status != 200:
            assert response.status == 400
            message = response.json["response"]["message"][0]
            return None, message[0] if isinstance(message, list) else message
        return [event["seq"] for event in response.json["events"]][:3], None

    def close(self):
        for each in self.opened:
            each.close()


def _in_query(value):
    if isinstance(value, list):
        return quote(",".join(map(str, value)))
    return quote(value if isinstance(value, str) else json.dumps(value))


@pytest.fixture(params=["socket", "stream", "rest"])
def reader(request, server, instance):
    reader = Reader(request.param, server, instance)
    yield reader
    reader.close()


@pytest.mark.any_database
@pytest.mark.parametrize("since", [9, "9", " 9 ", "+9", "009", 9.0, "9.0", "9."], ids=repr)
def test_a_number_is_read_however_it_is_spelled(reader, since):
    assert reader.ask(since=since) == ([10, 11, 12], None)


@pytest.mark.any_database
def test_the_id_of_an_event_is_read(reader, server, instance):
    epoch = server.get(server.path("/event/find", instance), key=instance.token).json["epoch"]
    assert reader.ask(since=f"{epoch}.9") == ([10, 11, 12], None)
    assert reader.ask(since=f" {epoch}.9 ") == ([10, 11, 12], None)
    assert reader.ask(since=f"{'0' * 16}.7")[0][0] == 1, "of a former instance of that name: all that is kept"


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("since", "kind"),
    [
        (-1, "a negative number"),
        (1.5, "a number"),
        (True, "a boolean"),
        ([], "a list of 0 items"),
        ({}, "an object"),
        ("x", "a text of 1 characters"),
        ("-1", "a text of 2 characters"),
        ("1.5", "a text of 3 characters"),
        ("1e3", "a text of 3 characters"),
        ("0.1.2", "a text of 5 characters"),
        ("9" * 500, "a text of 500 characters"),
        ("\u0663", "a text of 1 characters"),
        ("undefined", "a text of 9 characters"),
    ],
    ids=repr,
)
def test_a_position_that_cannot_be_read_is_refused_in_words(reader, since, kind):
    if reader.kind != "socket" and not isinstance(since, str):
        since = json.dumps(since)
        kind = f"a text of {len(since)} characters"
    form = 'the seq of an event (42 or "42") or its offset, which is also its id ("9c2347a1eeccb389.42")'
    if since == "[]" or since == []:
        assert reader.ask(since=since)[0] is None
    else:
        assert reader.ask(since=since) == (None, f"since cannot be read: it is {kind}, not {form}")


@pytest.mark.any_database
@pytest.mark.parametrize(
    "events", [["MESSAGES_UPSERT", "contacts.upsert"], "messages.upsert, CONTACTS_UPSERT,"], ids=repr
)
def test_events_are_named_in_both_spellings_in_a_list_or_a_text(reader, events):
    assert reader.ask(since=1, events=events)[0] == [2, 3, 5]


@pytest.mark.any_database
@pytest.mark.parametrize("events", [["MESSAGE_UPSERT"], "CALL,MESSAGE_UPSERT"], ids=repr)
def test_a_misspelt_event_is_refused_with_the_nearest_names(reader, events):
    seqs, error = reader.ask(events=events)
    assert seqs is None
    assert error.startswith('events: There is no event "MESSAGE_UPSERT"; the nearest are MESSAGES_UPSERT, ')


@pytest.mark.any_database
@pytest.mark.parametrize("empty", ["", None, []], ids=repr)
def test_what_is_empty_asks_for_nothing(server, instance, empty):
    client = Raw(server.url)
    auth = {"apikey": instance.token, "since": "" if empty == [] else empty, "events": empty, "recover": False}
    assert client.join(f"/{instance.name}", auth)[0] == "0"
    server.receive(instance, "live")
    assert client.event()[1]["seq"] == 13
    client.close()


# Sockets


@pytest.mark.parametrize(
    ("recover", "is_offered"), [(True, True), ("true", True), ("1", True), (1, True), ("false", False)]
)
@pytest.mark.any_database
def test_recovery_is_asked_for_however_it_is_spelled(server, instance, recover, is_offered):
    client = Raw(server.url)
    _, connected = client.join(f"/{instance.name}", {"apikey": instance.token, "recover": recover})
    assert ("pid" in connected) is is_offered
    client.close()


@pytest.mark.any_database
def test_an_option_that_cannot_be_read_refuses_the_stock_client_in_words(server, node, instance):
    auth = {"apikey": instance.token, "recover": "sometimes"}
    client = node.connect(f"{server.url}/{instance.name}", auth=auth)
    assert client.outcome() == "auth.recover cannot be read: it is a text of 9 characters, not true or false"
    client.disconnect()


@pytest.mark.any_database
def test_members_that_are_not_ours_are_the_applications(server, instance):
    client = Raw(server.url)
    auth = {"apikey": instance.token, "user": {"since": []}, "event": "x", "Since": "y", "locale": "pt-BR"}
    assert client.join(f"/{instance.name}", auth)[0] == "0"
    client.close()


@pytest.mark.any_database
@pytest.mark.parametrize("since", [99999, "99999", 10**30])
def test_a_position_beyond_the_last_event_begins_now_and_is_told(server, instance, since):
    client = Raw(server.url)
    client.join(f"/{instance.name}", {"apikey": instance.token, "since": since})
    name, error = client.event()
    assert (name, error["status"]) == ("error", 400)
    assert error["response"]["message"] == [
        "auth.since is beyond the last event, whose seq is 12: only events from now on are sent"
    ]
    server.receive(instance, "live")
    assert client.event()[1]["seq"] == 13
    client.close()


@pytest.mark.any_database
def test_a_position_of_another_kind_of_stream_is_refused(server, instance):
    for namespace, since, form in [
        ("/", 7, 'here it is an offset of "/"'),
        ("/", f"{'0' * 16}.7", 'here it is an offset of "/"'),
        (f"/{instance.name}", f"{'0' * 16}.1-2-3", "here it is the seq of an event"),
    ]:
        client = Raw(server.url)
        kind, error = client.join(namespace, {"apikey": GLOBAL_KEY, "since": since})
        assert (kind, form in error["message"]) == ("4", True), error
        client.close()


@pytest.mark.any_database
def test_an_unknown_emit_is_answered_in_words_where_a_callback_waits(server, node, instance):
    client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()
    error = client.call("send_mesage", {"text": "x"})
    sentence = 'There is no event to emit "send_mesage"; the nearest is send_message'
    assert (error["status"], error["response"]["message"]) == (400, [sentence])
    client.emit("subscribe", {"x": 1})
    server.receive(instance, "live")
    client.event("messages.upsert")
    assert not [line for line in client.seen if line.get("event") == "error"]
    client.disconnect()


# Streams


@pytest.mark.any_database
@pytest.mark.parametrize("last_event_id", ["x", "0.1", "9" * 500, "a.b.c", f"{'0' * 16}.1-2-3", "99999"])
def test_a_last_event_id_that_leads_nowhere_begins_now_and_is_told_once(server, instance, last_event_id):
    stream = Stream(server, instance.name, apikey=instance.token, **{"Last-Event-ID": last_event_id})
    offset, name, error = stream.event()
    assert (stream.status, name, error["event"]) == (200, "error", "error")
    assert error["data"]["response"]["message"][0].startswith("Last-Event-ID ")
    server.receive(instance, "live")
    assert stream.event()[2]["seq"] == 13
    stream.close()

    stream = Stream(server, instance.name, apikey=instance.token, **{"Last-Event-ID": offset})
    assert stream.event()[2]["seq"] == 13
    stream.close()


@pytest.mark.any_database
def test_a_last_event_id_that_cannot_be_read_leaves_since(server, instance):
    stream = Stream(server, instance.name, "?since=11", apikey=instance.token, **{"Last-Event-ID": "x"})
    assert stream.event()[1] == "error"
    assert stream.event()[2]["seq"] == 12
    stream.close()


@pytest.mark.any_database
def test_a_polyfill_resumes_by_its_field_of_the_query(server, instance):
    stream = Stream(server, instance.name, "?since=1&lastEventId=11&_=1732439927512", apikey=instance.token)
    assert stream.event()[2]["seq"] == 12
    stream.close()


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("?event=CALL", 'There is no parameter "event"; the nearest is events'),
        ("?sinse=4", 'There is no parameter "sinse"; the nearest is since'),
        ("?apikey=x", 'There is no parameter "apikey"; the parameters are since, events, token'),
        ("?since=1&since=2", "since is given 2 times, with different values: give it once"),
    ],
)
def test_a_parameter_that_a_stream_does_not_know_is_refused(server, instance, query, message):
    stream = Stream(server, instance.name, query, apikey=instance.token)
    assert (stream.status, stream.json()["response"]["message"]) == (400, [message])
    stream.close()


# REST


@pytest.mark.any_database
def test_former_names_mean_the_same(server, instance):
    find = server.path("/event/find", instance)
    for query in ("?after=9", "?since=9", "?after=%209", "?since=+9", "?after=9.0"):
        assert [event["seq"] for event in server.get(find + query).json["events"]] == [10, 11, 12]
    assert server.get(f"{find}?type=call").json["events"] == server.get(f"{find}?events=call").json["events"] == []
    assert len(server.get(f"{find}?type=").json["events"]) == len(server.get(f"{find}?events=").json["events"]) == 12
    for query, message in (
        ("?after=1&since=1", "after is another name of since: send one of them"),
        ("?type=call&events=call", "type is another name of events: send one of them"),
    ):
        response = server.get(find + query)
        assert (response.status, response.json["response"]["message"]) == (400, [[message]])


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/websocket/set", {"websocket": {"enabled": True, "events": ["MESSAGE_UPSERT"]}}),
        ("/webhook/set", {"webhook": {"enabled": True, "url": "http://127.0.0.1/", "events": ["MESSAGE_UPSERT"]}}),
        ("/webhook/endpoints", {"url": "http://127.0.0.1/", "events": ["MESSAGE_UPSERT"]}),
        ("/event/publish", {"event": "MESSAGE_UPSERT", "data": {}}),
        ("/webhook/test", {"event": "MESSAGE_UPSERT"}),
    ],
)
def test_every_route_tells_the_nearest_names_of_a_misspelt_event(server, instance, path, body):
    response = server.post(server.path(path, instance), body)
    [[listed, sentence]] = response.json["response"]["message"]
    assert response.status == 400
    assert " is not one of enum values: " in listed
    assert sentence.startswith('There is no event "MESSAGE_UPSERT"; the nearest are MESSAGES_UPSERT, ')
