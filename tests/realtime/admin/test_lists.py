"""The lists of the admin: their queries, their totals, and what they do with many rows."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from instances.admin import long_list
from instances.admin.long_list import BoundedPaginator, estimated_rows
from instances.models import Chat, Contact, Instance, Message
from realtime.admin import links
from realtime.delivery.models import Delivery
from realtime.log.models import Event
from tests.instances.admin.pages import at, cells, fill
from tests.realtime.admin import many_rows
from tests.realtime.admin.work import MAX_WORK, work_of


@pytest.mark.slow
def test_each_list_needs_at_most_ten_queries_with_any_filter(admin_client, db):
    many_rows.fill(instances=3, rows=4)
    pages = 0
    for url in many_rows.lists():
        response = admin_client.get(url)
        choices = [
            choice for spec in response.context["cl"].filter_specs for choice in spec.choices(response.context["cl"])
        ]
        links = [choice["query_string"] for choice in choices if "query_string" in choice]
        for query in ("", *links, "?q=shop", "?p=1"):
            with CaptureQueriesContext(connection) as queries:
                assert admin_client.get(f"{url}{query}").status_code == 200
            assert len(queries) <= 10, (url, query, [each["sql"] for each in queries])
            pages += 1
    assert pages > 100


@pytest.mark.parametrize("model", [Event, Delivery, Message, Contact, Chat])
def test_a_total_beyond_the_bound_is_estimated(admin_client, db, model, monkeypatch):
    monkeypatch.setattr(BoundedPaginator, "MAX", 50)
    many_rows.fill(instances=3, rows=40)
    assert estimated_rows(model) == pytest.approx(120, abs=10)
    page = admin_client.get(at("changelist", model)).content.decode()
    assert f"about {estimated_rows(model)} " in page
    instance = Instance.objects.first()
    page = admin_client.get(at("changelist", model), {"instance_id": str(instance.pk)}).content.decode()
    assert '<div class="py-4">40 ' in page


@pytest.mark.bound("LIMIT_FILTERED_ROWS")
def test_a_filter_without_an_index_looks_at_the_newest_rows_and_says_so(admin_client, db, monkeypatch):
    monkeypatch.setattr(long_list, "FILTERED_ROWS", 3)
    instance = Instance.objects.create(name="loja")
    for number in range(5):
        fill(instance, f"wa-{number}", push_name="Ana")
    by_text = admin_client.get(at("changelist", Message), {"q": "Ana"})
    assert cells(by_text, "push_name") == ["Ana"] * 3
    assert "3 messages, among the newest" in by_text.content.decode()
    by_type = admin_client.get(at("changelist", Event), {"type": "instance.create"})
    assert cells(by_type, "type") == []
    with_instance = {"type": "instance.create", "instance_id": str(instance.pk)}
    assert cells(admin_client.get(at("changelist", Event), with_instance), "type") == ["instance.create"]
    assert "among the newest" not in admin_client.get(at("changelist", Message)).content.decode()


def test_a_seq_behind_a_name_is_looked_up_in_so_many_instances(admin_client, db, monkeypatch):
    monkeypatch.setattr(links, "MAX_WITH_SEQ", 2)
    for name in ("shop ccc", "shop a", "shop bb"):
        Instance.objects.create(name=name)
    page = admin_client.get(at("changelist", Event), {"q": "shop 1"})
    texts = [cell.removesuffix("</a>") for cell in cells(page, "name")]
    assert sorted(cell.rpartition(">")[2] for cell in texts) == ["shop a", "shop bb"]


def test_the_lists_of_rows_say_how_many_instances_a_seq_is_looked_up_in(admin_client, db):
    for model in (Event, Delivery):
        assert "in up to 1,000 instances" in admin_client.get(at("changelist", model)).content.decode()


def test_old_pending_and_dead_deliveries_are_found_among_newer_ones(admin_client, db, monkeypatch):
    monkeypatch.setattr(long_list, "FILTERED_ROWS", 3)
    many_rows.fill(instances=2, rows=10)
    dead = admin_client.get(at("changelist", Delivery), {"state__exact": "dead"})
    assert cells(dead, "state") == ["Dead"] * 2
    Delivery.objects.filter(seq=1).update(state="pending")
    pending = admin_client.get(at("changelist", Delivery), {"state__exact": "pending"})
    assert cells(pending, "state") == ["Pending"] * 2
    endpoint = Delivery.objects.first().endpoint_id
    of_endpoint = admin_client.get(at("changelist", Delivery), {"state__exact": "dead", "endpoint_id": endpoint})
    assert cells(of_endpoint, "state") == ["Dead"] * 2


def test_a_chat_leads_to_its_messages(admin_client, db):
    instance = Instance.objects.create(name="loja")
    fill(instance, "5511")
    fill(instance, "5522")
    chat = Chat.objects.get(remote_jid="5511@s.whatsapp.net")
    page = admin_client.get(at("change", Chat, chat.pk)).content.decode()
    url = f"{at('changelist', Message)}?instance_id={instance.pk}&remote_jid=5511@s.whatsapp.net"
    assert url.replace("&", "&amp;").replace("@", "%40") in page
    assert cells(admin_client.get(url), "remote_jid") == ["5511@s.whatsapp.net"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lists_and_searches_cost_little_with_10_000_instances_and_a_million_rows(admin_client, db):
    shops = many_rows.fill()
    works = {url: work_of(admin_client, url) for url in [*many_rows.lists(), *many_rows.filters_and_searches(shops)]}
    assert max(works.values()) < MAX_WORK[connection.vendor], works
