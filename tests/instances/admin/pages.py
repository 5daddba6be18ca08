"""Pages and rows of the tests of the admin."""

from __future__ import annotations

import re

from django.urls import reverse

from instances.events import EventType
from instances.models import ApiKey, Chat, Contact, Instance, Message, Subscription
from realtime.log.models import Event
from realtime.log.stream import Stream

MODELS = (Instance, ApiKey, Subscription, Message, Contact, Chat, Event, Stream)


def at(page, model, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def errors_of(response):
    """Return all errors of the form."""
    assert response.status_code == 200
    return " ".join(text for texts in response.context["adminform"].form.errors.values() for text in texts)


def cells(response, column):
    """Return the contents of a column of a list, as HTML."""
    cell = rf'<t[dh] class="field-{column} [^"]*" data-label="[^"]*">(.*?)</t[dh]>'
    return re.findall(cell, response.content.decode(), re.DOTALL)


def fill(instance, wa_id="wa-1", content=None, **fields):
    """Create a message, a contact, a chat and an event."""
    jid = f"{wa_id}@s.whatsapp.net"
    content = {"conversation": "hello"} if content is None else content
    known = {"type": "conversation", "timestamp": 1767225600, "push_name": "Ana"} | fields
    message = Message.objects.create(instance=instance, wa_id=wa_id, remote_jid=jid, content=content, **known)
    Contact.objects.create(instance=instance, remote_jid=jid)
    Chat.count(instance, message)
    Event.objects.record(instance, EventType.CALL, {"from": jid})


def rows(count, start=0):
    for number in range(start, start + count):
        instance = Instance.objects.create(name=f"instance-{number}")
        fill(instance, f"wa-{number}")
        Subscription.set_websocket(instance, True, ["CALL"])
        ApiKey.objects.issue(f"key-{number}", ["read"])[0].instances.add(instance)
