"""Subscriptions to all events: an empty list, also for our own types; and lists that stand for all of them."""

from __future__ import annotations

import secrets

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from instances.models import Instance, Subscription
from tests.environment import GLOBAL_KEY
from tests.in_process import until
from tests.instances.whole_lists import ALL_OF_2_3, ALL_OF_2_4, MARKED
from tests.receiver import Receiver

#: Prints the URLs that a message was enqueued for.
ENDPOINTS = """
from realtime.delivery.models import Delivery
print(sorted(set(Delivery.objects.filter(type="messages.upsert").values_list("destination", flat=True))))
"""


def test_an_enabled_subscription_without_a_list_receives_types_of_our_own(server, node):
    """Meta reports a change of the account, which Evolution API has no event for."""
    business = str(secrets.randbelow(10**15))
    instance = server.create(integration="WHATSAPP-BUSINESS", businessId=business)
    settings = {"websocket": {"enabled": True, "events": []}}
    shown = [server.post(server.path("/websocket/set", instance), settings).json["events"]]
    with Receiver() as receiver:
        webhook = {"webhook": {"enabled": True, "url": receiver.url, "events": MARKED}}
        shown.append(server.post(server.path("/webhook/set", instance), webhook).json["events"])
        client = node.connect(f"{server.url}/{instance.name}", auth={"apikey": instance.token}).connected()

        value = {"message_template_id": 1, "new_category": "MARKETING"}
        change = {"field": "template_category_update", "value": value}
        payload = {"object": "whatsapp_business_account", "entry": [{"id": business, "changes": [change]}]}
        assert server.post_meta(payload).status == 200

        assert client.event("business.update")["data"]["field"] == "template_category_update"
        until(lambda: receiver.requests)
        [request] = receiver.requests
        assert request.json["event"] == "business.update"
    assert shown == [ALL_OF_2_4] * 2
    client.disconnect()


def test_a_disabled_subscription_without_a_list_receives_nothing(server):
    instance = server.create()
    disabled = {"websocket": {"enabled": False, "events": ALL_OF_2_4}}
    assert server.post(server.path("/websocket/set", instance), disabled).json["events"] == []
    server.receive(instance)

    assert server.get(server.path("/event/find", instance), key=GLOBAL_KEY).json["events"][1:] == []


@pytest.mark.parametrize("switches", [{}, {"WEBHOOK_EVENTS_MESSAGES_UPSERT": "true"}], ids=["none", "one"])
def test_switches_in_the_environment_are_no_list_and_none_is_nothing(fresh_server, switches):
    operators, own = "http://127.0.0.1:9/operator", "http://127.0.0.1:9/own"
    server = fresh_server(WEBHOOK_GLOBAL_ENABLED="true", WEBHOOK_GLOBAL_URL=operators, **switches)
    instance = server.create()
    webhook = {"webhook": {"enabled": True, "url": own, "events": []}}
    assert server.post(server.path("/webhook/set", instance), webhook).status == 201
    server.receive(instance)

    assert server.shell(ENDPOINTS) == f"{sorted([own, *[operators] * len(switches)])}\n"


@pytest.mark.parametrize("names", [ALL_OF_2_4, ALL_OF_2_3, MARKED, [*MARKED, "CALL"]], ids=len)
def test_a_stored_list_of_all_events_becomes_an_empty_one(transactional_db, names):
    """The migration turns rows of former versions into what `set` stores now."""

    def migrate(targets):
        return MigrationExecutor(connection).migrate(targets).apps

    newest = MigrationExecutor(connection).loader.graph.leaf_nodes()
    loja = Instance.objects.create(name="loja")
    try:
        old = migrate([("instances", "0005_texts")]).get_model("instances", "Subscription")
        whole = old.objects.create(instance_id=loja.pk, transport="webhook", events=names)
        part = old.objects.create(instance_id=loja.pk, transport="rabbitmq", events=names[1:-1])
    finally:
        migrate(newest)

    stored = dict(Subscription.objects.values_list("pk", "events"))
    assert stored == {whole.pk: [], part.pk: names[1:-1]}
