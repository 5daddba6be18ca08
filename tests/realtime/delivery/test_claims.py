"""Claims end with what they were for: no endpoint, connection or lock keeps a delivery from being sent."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import psycopg
import pytest
from django.utils import timezone

from tests.in_process import until
from tests.receiver import Receiver

TEXT = {"number": "5511988887777", "text": "hello"}
SUBSCRIBE = """
from instances.models import Instance, Subscription
instance = Instance.objects.get(name={name!r})
subscription = Subscription(instance=instance, transport="webhook", events=["CALL"], options={{"url": {url!r}}})
subscription.keep_secrets(headers={{}}, signing=["whsec_" + "A" * 32])
subscription.save()
print(subscription.pk)
"""
#: Stores options that are no JSON: the endpoint's row cannot be read.
SET_OPTIONS = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("UPDATE instances_subscription SET options = %s WHERE id = %s", [{options!r}, {id}])
"""
#: Prints the number of deliveries that are claimed, and of those that wait for their next attempt.
CLAIMED = "from realtime.delivery.models import Delivery; print(Delivery.objects.exclude(lease=None).count())"
WAITING = (
    "from realtime.delivery.models import Delivery; print(Delivery.objects.filter(attempts=1, lease=None).count())"
)
#: Claims those that wait for the process that sends the others, until 7 seconds from now.
LOSE_CLAIM = """
from datetime import timedelta
from django.utils import timezone
from realtime.delivery.models import Delivery
lease = Delivery.objects.exclude(lease=None).get().lease
Delivery.objects.filter(lease=None, state="pending").update(lease=lease, due_at=timezone.now() + timedelta(seconds=7))
"""


def subscribe(server, instance, receiver):
    return int(server.shell(SUBSCRIBE.format(name=instance.name, url=receiver.url)))


def publish(server, instance, count=1):
    events = [{"event": "call", "data": {"number": number}} for number in range(count)]
    assert server.post(server.path("/event/publish", instance), events).status == 201


@pytest.mark.slow
def test_an_endpoint_that_cannot_be_read_keeps_no_claim_and_delays_no_other(fresh_server):
    with Receiver() as receiver, Receiver() as other:
        server = fresh_server(DELIVERY_EMBEDDED="false")
        instance = server.create()
        unreadable, _ = subscribe(server, instance, receiver), subscribe(server, instance, other)
        publish(server, instance, 3)
        server.shell(SET_OPTIONS.format(options='{"url": ', id=unreadable))
        server.stop()
        server.environment["DELIVERY_EMBEDDED"] = "true"
        server.start()

        until(lambda: len(other.requests) == 3)
        until(lambda: f"The endpoint {unreadable} is set aside" in server.log.read_text())
        until(lambda: server.shell(CLAIMED) == "0\n", 5)
        assert not receiver.requests

        server.shell(SET_OPTIONS.format(options=f'{{"url": "{receiver.url}"}}', id=unreadable))
        until(lambda: len(receiver.requests) == 3, 20)


@pytest.mark.slow
def test_a_claim_that_its_process_does_not_know_of_ends_while_the_process_is_busy(fresh_server):
    """The connection may break after the commit of a claim: then nobody handles what was claimed."""
    hanging = threading.Event()
    with Receiver(lambda request: hanging.wait(30) and 200) as busy, Receiver(lambda request: 503) as receiver:
        server = fresh_server()
        instance = server.create()
        subscribe(server, instance, receiver)
        publish(server, instance)
        until(lambda: server.shell(WAITING) == "1\n")
        subscribe(server, instance, busy)
        publish(server, instance)
        until(lambda: busy.requests and server.shell(WAITING) == "2\n")

        server.shell(LOSE_CLAIM)
        before = len(receiver.requests)
        until(lambda: len(receiver.requests) > before, 14)
        hanging.set()
    assert len(busy.requests) == 1


@pytest.mark.postgres
@pytest.mark.slow
def test_claims_are_renewed_while_one_tenants_sends_wait_for_a_lock(fresh_server, node):
    hanging = threading.Event()
    with Receiver(lambda request: hanging.wait(60) and 200) as receiver:
        server = fresh_server()
        instance, locked = server.create(), server.create()
        subscribe(server, instance, receiver)
        url, auth = f"{server.url}/{locked.name}", {"apikey": locked.token}
        sockets = [node.connect(url, auth=auth).connected() for _ in range(6)]
        request = server.path("/message/sendText", locked), TEXT
        threads = [threading.Thread(target=server.post, args=request) for _ in range(25)]
        publish(server, instance)
        until(lambda: receiver.requests)
        with psycopg.connect(server.environment["DATABASE_URL"]) as connection:
            connection.execute("SELECT 1 FROM instances_instance WHERE id = %s FOR UPDATE", [locked.id])
            for socket in sockets:
                socket.emit("send_message", TEXT)
            for thread in threads:
                thread.start()
            time.sleep(9)  # renewals are due every 5 seconds
            with psycopg.connect(server.environment["DATABASE_URL"]) as other:
                [[due_at]] = other.execute("SELECT due_at FROM realtime_delivery WHERE lease IS NOT NULL").fetchall()
            assert due_at > timezone.now() + timedelta(seconds=8)
        for thread in threads:
            thread.join()
        hanging.set()
    for socket in sockets:
        socket.disconnect()
