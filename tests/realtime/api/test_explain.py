"""Explanations of events: GET /webhook/why/<instance>/<event>."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from instances.models import Subscription
from instances.timestamps import iso
from realtime.delivery.models import Delivery, State
from realtime.log.models import Event
from realtime.log.stream import Stream
from tests.environment import GLOBAL_KEY
from tests.realtime.api.rows import (
    ARABIC_ONE,
    OTHER,
    SECRET,
    URL,
    an_attempt,
    an_endpoint,
    explanation,
    message,
    record,
)

pytest_plugins = ("tests.rest",)


def test_an_explanation_covers_each_endpoint(call, loja):
    wanting, unsubscribed = an_endpoint(loja), an_endpoint(loja, events=["CHATS_SET"])
    off = an_endpoint(loja, is_enabled=False, disabled_reason="It answered 410 Gone")
    later_changed = an_endpoint(loja, events=["CHATS_SET"])
    event = record(loja)
    Subscription.objects.filter(pk=later_changed.pk).update(events=["CALL"])
    late = an_endpoint(loja)

    content = explanation(call, event.seq)

    epoch = Stream.objects.get(pk=loja.pk).epoch
    assert content["event"] == {
        "id": f"{epoch}.{event.seq}",
        "seq": event.seq,
        "event": "call",
        "at": iso(event.created_at),
    }
    found = {int(endpoint["endpoint"]): endpoint for endpoint in content["endpoints"]}
    assert list(found) == [wanting.pk, unsubscribed.pk, off.pk, later_changed.pk, late.pk]
    assert {pk: (endpoint["wanted"], endpoint["state"]) for pk, endpoint in found.items()} == {
        wanting.pk: (True, "pending"),
        unsubscribed.pk: (False, "not owed"),
        off.pk: (False, "not owed"),
        later_changed.pk: (False, "not owed"),
        late.pk: (False, "not owed"),
    }
    assert found[unsubscribed.pk]["text"] == f"The webhook endpoint {unsubscribed.pk} is not subscribed to CALL."
    assert found[off.pk]["text"] == f"The webhook endpoint {off.pk} is switched off: It answered 410 Gone."
    assert "wants such events now, but did not when this one happened" in found[later_changed.pk]["text"]
    assert "was created after it" in found[late.pk]["text"]
    assert "has not been sent it yet: it is due since" in found[wanting.pk]["text"]
    assert content["summary"] == [*(endpoint["text"] for endpoint in content["endpoints"]), content["sockets"]["text"]]
    assert content == explanation(call, content["event"]["id"])


def test_an_ordered_delivery_is_explained_by_the_event_that_it_waits_for(call, loja):
    an_endpoint(loja, options={"url": URL, "ordered": True})
    first, second, third = record(loja), record(loja), record(loja)
    Delivery.objects.filter(seq=first.seq).update(state=State.DELIVERED)
    Delivery.objects.filter(seq=second.seq).update(attempts=1, due_at=timezone.now() + timedelta(hours=1))
    assert "has not accepted it yet: 1 attempt," in explanation(call, second.seq)["endpoints"][0]["text"]
    assert (
        f"waits for event {second.seq}, because its events are delivered in order."
        in explanation(call, third.seq)["endpoints"][0]["text"]
    )


@pytest.mark.parametrize(
    ("fields", "attempt", "words"),
    [
        (
            {"state": State.DELIVERED, "attempts": 1},
            {"status": 200, "error": ""},
            "accepted it at {at}, after 1 attempt.",
        ),
        (
            {"state": State.DEAD, "attempts": 3},
            {"status": 422, "error": ""},
            "did not accept it: given up at {at}, after 3 attempts. The last time: HTTP 422.",
        ),
        (
            {"state": State.PENDING, "attempts": 2, "finished_at": None},
            {"status": None, "error": "The host of the URL was not found"},
            "has not accepted it yet: 2 attempts, the next one is due at {due}. The last time: The host of the URL was",
        ),
        (
            {"state": State.DEAD, "reason": "Its endpoint was switched off: It answered 410"},
            None,
            "did not accept it: given up at {at}, after 0 attempts. Its endpoint was switched off: It answered 410.",
        ),
        (
            {"state": State.DROPPED, "reason": "Its endpoint was deleted"},
            None,
            "was not sent it any more at {at}. Its endpoint was deleted.",
        ),
        ({"state": State.DROPPED}, None, "was not sent it any more at {at}, as it was deleted or disabled."),
    ],
)
def test_the_state_of_a_delivery_is_explained(call, loja, endpoint, fields, attempt, words):
    event = record(loja)
    at, due = (datetime(year, 1, 2, 3, 4, 5, 678000, UTC) for year in (2026, 2096))
    Delivery.objects.update(**{"finished_at": at, "due_at": due} | fields)
    if attempt:
        an_attempt(Delivery.objects.get(), **attempt)
    [row] = explanation(call, event.seq)["endpoints"]
    expected = words.format(at=iso(at), due=iso(due))
    assert row["text"].startswith(f"The webhook endpoint {endpoint.pk} {expected}")
    assert row["state"] == fields["state"]


def test_a_delivery_under_way_is_explained_by_what_has_not_come_yet(call, loja, endpoint):
    event, waiting = record(loja), record(loja)
    claimed = Delivery.objects.filter(seq=event.seq)
    claimed.update(lease="0123456789abcdef", due_at=timezone.now() + timedelta(seconds=15))
    [row] = explanation(call, event.seq)["endpoints"]
    at = iso(Delivery.objects.get(seq=event.seq).created_at)
    assert row["text"].endswith(f"is being sent it now, and has not answered yet; it waits since {at}.")

    claimed.update(attempts=2)
    an_attempt(claimed.get(), status=None, error="There was no answer within 30 seconds")
    [row] = explanation(call, event.seq)["endpoints"]
    assert f"has not accepted it yet: 2 attempts, the next one is under way; it waits since {at}." in row["text"]
    assert row["text"].endswith("The last time: There was no answer within 30 seconds.")

    failing_since = timezone.now() - timedelta(minutes=17)
    Subscription.objects.filter(pk=endpoint.pk).update(failing_since=failing_since)
    [row] = explanation(call, waiting.seq)["endpoints"]
    assert "has not been sent it yet: it is due since " in row["text"]
    assert "; no process that delivers is running: start the server, or `manage.py deliver`; " in row["text"]
    assert "; others that are under way and not answered yet: 1; " in row["text"]
    assert row["text"].endswith(f"the endpoint has accepted nothing since {iso(failing_since)}.")


def test_resent_deliveries_are_explained(call, loja, endpoint):
    event = record(loja)
    Delivery.objects.update(state=State.DEAD, attempts=1, finished_at=timezone.now())
    first = Delivery.objects.get()
    second = call("POST", f"/webhook/deliveries/loja/{first.pk}/resend", {})[1]["id"]
    redirected = call("POST", f"/webhook/deliveries/loja/{first.pk}/resend", {"url": OTHER, "secret": SECRET})[1]
    own, other = explanation(call, event.seq)["endpoints"]
    assert own["deliveries"] == [str(first.pk), second]
    assert "; then it has not been sent it yet" in own["text"]
    assert own["state"] == "pending"
    assert (other["deliveries"], other["destination"]) == ([redirected["id"]], OTHER)


def test_tenants_do_not_see_destinations_of_global_endpoints(call, loja):
    hidden = an_endpoint(None, options={"url": "https://operator.example/secret-path"})
    event = record(loja)
    [row] = explanation(call, event.seq)["endpoints"]
    assert (row["endpoint"], row["destination"], row["wanted"]) == (str(hidden.pk), None, True)
    assert (
        explanation(call, event.seq, GLOBAL_KEY)["endpoints"][0]["destination"]
        == "https://operator.example/secret-path"
    )
    Subscription.objects.all().delete()


@pytest.mark.parametrize(
    ("events", "is_heard", "words"),
    [
        (None, True, "Sockets were to receive it; 0 that receive such events are connected to this process now."),
        (["CALL"], True, "Sockets were to receive it; 0 that"),
        (["CHATS_SET"], False, "Sockets were not to receive it: the instance's websocket settings left out CALL."),
    ],
)
def test_an_explanation_says_if_sockets_were_to_receive_the_event(call, loja, events, is_heard, words):
    if events:
        Subscription.set_websocket(loja, True, events)
    content = explanation(call, record(loja).seq)
    assert content["endpoints"] == []
    assert content["sockets"]["isHeard"] is is_heard
    assert content["sockets"]["text"].startswith(words)


def test_an_unknown_or_pruned_event_is_not_found_with_the_reason(call, loja, other, endpoint):
    event = record(loja)
    epoch = Stream.objects.get(pk=loja.pk).epoch
    for reference, words in [
        (event.seq + 1, f'Event {event.seq + 1} of "loja" has not happened: the last one is {event.seq}'),
        (f"{'0' * 16}.{event.seq}", f'The "loja" instance knows no event {"0" * 16}.{event.seq}'),
        ("x", 'The "loja" instance knows no event x'),
        ("0", 'The "loja" instance knows no event 0'),
        ("-1", 'The "loja" instance knows no event -1'),
        ("9" * 40, f'The "loja" instance knows no event {"9" * 40}'),
        ("test.abc", 'The "loja" instance knows no event test.abc'),
        (ARABIC_ONE, f'The "loja" instance knows no event {ARABIC_ONE}'),
    ]:
        status, content = call("GET", f"/webhook/why/loja/{reference}")
        assert (status, message(content)) == (404, [words])

    Event.objects.filter(seq=event.seq).delete()
    content = explanation(call, f"{epoch}.{event.seq}")  # its delivery is still there
    assert content["endpoints"][0]["state"] == "pending"
    assert content["sockets"]["isHeard"] is None
    Delivery.objects.all().delete()
    status, content = call("GET", f"/webhook/why/loja/{event.seq}")
    assert (status, message(content)) == (
        404,
        [f'Event {event.seq} of "loja" is not kept any more: events are kept for 168 hours'],
    )


def test_a_test_event_is_explained(call, endpoint):
    event_id = call("POST", "/webhook/test/loja", {"event": "call"})[1]["event"]
    assert explanation(call, event_id)["endpoints"][0]["state"] == "pending"
