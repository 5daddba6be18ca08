"""The admin of messages, contacts, chats and events, through Django's client."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from instances.admin.base import MAX_SHOWN
from instances.models import Chat, Contact, Instance, Message
from realtime.log.models import Event
from realtime.log.stream import Stream
from tests.instances.admin.pages import MODELS, at, fill, rows


@pytest.mark.parametrize("model", MODELS)
def test_a_longer_list_needs_no_more_queries(admin_client, db, model):
    counts = []
    for start, added in ((0, 1), (1, 19)):
        rows(added, start)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            response = admin_client.get(at("changelist", model))
        counts.append(len(queries))
    assert response.context["cl"].result_count >= 20
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("model", "column"), [(Event, "envelope"), (Message, "content")])
def test_lists_do_not_load_columns_of_the_detail_page(admin_client, db, model, column):
    rows(1)
    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(at("changelist", model))
    assert len(response.context["cl"].result_list) >= 1
    assert not [query for query in queries if f'"{column}"' in query["sql"]]


@pytest.mark.parametrize(
    ("model", "sought"), [(Message, "wa-2@"), (Message, "ana 2"), (Contact, "wa-2"), (Chat, "wa-2"), (Event, "centro")]
)
def test_stored_rows_can_be_searched(admin_client, instance, model, sought):
    fill(Instance.objects.create(name="other"), "wa-1")
    fill(instance, "wa-2", push_name="Ana 2")

    found = list(admin_client.get(at("changelist", model), {"q": sought}).context["cl"].result_list)
    assert found
    assert found == [row for row in model.objects.all() if instance.pk == row.instance_id]


def test_events_are_listed_newest_first_and_filtered_by_type(admin_client, instance):
    fill(instance)
    everything = admin_client.get(at("changelist", Event)).context["cl"].result_list
    assert [event.type for event in everything] == ["call", "instance.create"]

    calls = admin_client.get(at("changelist", Event), {"type": "call"}).context["cl"].result_list
    assert [event.type for event in calls] == ["call"]


def test_rows_of_providers_and_the_log_are_read_only(admin_client, instance):
    fill(instance)
    for model in (Message, Contact, Chat, Event, Stream):
        row = model.objects.first()
        assert admin_client.get(at("change", model, row.pk)).status_code == 200
        for url in (at("add", model), at("change", model, row.pk), at("delete", model, row.pk)):
            assert admin_client.post(url, {"post": "yes"}).status_code == 403
        assert "delete_selected" not in admin_client.get(at("changelist", model)).content.decode()


def test_an_invalid_time_and_a_very_long_text_are_shown(admin_client, instance):
    fill(instance, content={"imageMessage": {"base64": "A" * 2 * MAX_SHOWN}}, timestamp=2**62)

    page = admin_client.get(at("change", Message, Message.objects.get().pk)).content.decode()
    assert str(2**62) in page
    assert re.search(r"A\n… and more", page)
    assert len(page) < 1.8 * MAX_SHOWN
