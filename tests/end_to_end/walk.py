"""Rows of two instances with texts to look for, and the requests of a walk through all pages for staff users."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, User
from django.urls import get_resolver, reverse
from django.utils import timezone

from instances.crypto import Secret
from instances.events import EventType
from instances.models import ApiKey, Chat, Contact, Instance, Message, Subscription
from realtime.delivery.models import Attempt, Delivery
from realtime.inbox.models import Inbox, InboxRequest
from realtime.log.models import Event
from realtime.log.stream import Stream
from realtime.operation.models import Process

#: The beginnings of the paths that the walk takes.
PREFIXES = ("admin/", "console/", "docs/")
#: A text in everything that messages say, and nowhere else.
CONTENT = "zyxcontent"


def _endpoint(pk: int, instance: Instance | None, name: str) -> Subscription:
    options = {"url": f"https://hook.{name}.example/in", "byEvents": False, "base64": False, "ordered": False}
    endpoint = Subscription(pk=pk, instance=instance, transport="webhook", events=["CALL"], options=options)
    endpoint.keep_secrets(headers={"X-Key": name}, signing=["whsec_" + "A" * 43 + "="])
    endpoint.save()
    return endpoint


def _deliver(pk: int, event: Event, endpoint: Subscription, body: bytes, **fields: Any) -> Delivery:
    stream = Stream.objects.get(pk=event.instance_id)
    known = {"event_id": f"{stream.epoch}.{event.seq}", "name": event.name, "type": event.type, "state": "dead"}
    delivery = Delivery.objects.create(
        pk=pk,
        instance_id=event.instance_id,
        seq=event.seq,
        endpoint_id=endpoint.pk,
        transport="webhook",
        destination=endpoint.options["url"],
        body=body,
        size=len(body),
        attempts=1,
        finished_at=timezone.now(),
        **known | fields,
    )
    Attempt.objects.create(
        delivery=delivery,
        number=1,
        at=timezone.now(),
        duration_ms=1,
        status=500,
        excerpt=f"{CONTENT} was refused",
        error=f"The host of {endpoint.options['url']} answered HTTP 500",
    )
    return delivery


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a row; secrets, which are equal to none, as they are stored."""
    return {name: value.cipher if isinstance(value, Secret) else value for name, value in row.items()}


@dataclass
class Rows:
    """One instance with a row of each kind; their texts begin with `name`, and their keys with `number`."""

    name: str
    number: int
    ids: dict[type, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name, pk = self.name, self.number * 10**9
        self.instance = Instance.objects.create(
            name=f"{name}-shop", number=str(pk + 1), owner_jid=f"{pk + 2}@s.whatsapp.net", profile_name=f"{name} Ltd."
        )
        jid, said = f"{pk + 3}@s.whatsapp.net", f"{name} {CONTENT}"
        fields = {"type": "conversation", "timestamp": 1767225600, "push_name": f"{name} Ana"}
        content = {"content": {"conversation": said}, "context": {"quotedMessage": {"conversation": said}}}
        message = Message.objects.create(
            pk=pk + 4, instance=self.instance, wa_id=f"{name}WAID", remote_jid=jid, **fields, **content
        )
        contact = Contact.objects.create(pk=pk + 5, instance=self.instance, remote_jid=jid, push_name=f"{name} Ana")
        chat = Chat.objects.create(pk=pk + 6, instance=self.instance, remote_jid=jid, name=f"{name} Ana")
        key, self.secret = ApiKey.objects.issue(f"{name} key", ["listen"], pk=pk + 7)
        key.instances.add(self.instance)
        endpoint = _endpoint(pk + 8, self.instance, name)
        qr_code = {"qrcode": {"code": said, "base64": f"data:image/png;base64,{CONTENT}", "pairingCode": CONTENT}}
        Event.objects.record(self.instance, EventType.QRCODE_UPDATED, qr_code)
        data = message.as_event()
        event = Event.objects.record(self.instance, EventType.MESSAGES_UPSERT, data, dedupe_key=message.event_keys()[0])
        Event.objects.filter(instance_id=self.instance.pk, seq=event.seq).update(id=pk + 9)
        self.event = Event.objects.get(pk=pk + 9)
        delivery = _deliver(pk + 10, self.event, endpoint, json.dumps({"data": data}).encode())
        known = (self.instance, message, contact, chat, key, endpoint, self.event, delivery)
        self.ids = {type(row): row.pk for row in known} | {Stream: self.instance.pk}
        author, _ = User.objects.get_or_create(username="zyxauthor")
        LogEntry.objects.log_actions(author.pk, list(known), CHANGE, f"{name} was changed.")

    @property
    def reference(self) -> str:
        return f"{Stream.objects.get(pk=self.instance.pk).epoch}.{self.event.seq}"

    @property
    def marks(self) -> list[str]:
        """Texts in an answer by which it shows something of these rows."""
        return [self.name, str(self.number * 10**9)[:4] + "00000", str(self.instance.pk), self.instance.pk.hex]

    def snapshot(self) -> list[Any]:
        """Return all values of the rows, to compare."""
        rows = [model.objects.filter(pk=pk).values() for model, pk in self.ids.items()]
        histories = LogEntry.objects.filter(object_id__in=[str(pk) for pk in self.ids.values()]).values()
        resent = Delivery.objects.filter(instance_id=self.instance.pk).values("pk", "state")
        return [[_comparable(row) for row in found] for found in (*rows, histories, resent)]


_POSTED = {"headers": Secret('[["X-Name", "zyxglobal"]]'), "verdict": "unsigned", "reason": "zyxglobal"}


def fill_server(own: Rows) -> dict[type, Any]:
    """Create what belongs to all instances; returns the primary keys by model."""
    endpoint = _endpoint(888_000_001, None, "zyxglobal")
    _deliver(888_000_002, own.event, endpoint, b"{}", is_operators=True)
    everything, _ = ApiKey.objects.issue("zyxglobal key", ["listen"], pk=888_000_003, all_instances=True)
    now = timezone.now()
    process = Process.objects.create(
        pk="zyxglobal", command="serve", host="zyxglobal", pid=1, started_at=now, seen_at=now
    )
    user, group = User.objects.create(username="zyxglobal"), Group.objects.create(name="zyxglobal group")
    inbox = Inbox.create_for(user)
    posted = InboxRequest.objects.create(
        inbox=inbox, pk=888_000_004, received_at=now, body=b"zyxglobal", size=9, **_POSTED
    )
    return {type(row): row.pk for row in (endpoint, everything, process, user, group, inbox, posted)}


#: Texts of what belongs to all instances.
GLOBAL_MARKS = ["zyxglobal"]


@dataclass(frozen=True)
class Request:
    path: str
    query: tuple[tuple[str, str], ...] = ()
    form: tuple[tuple[str, Any], ...] | None = None

    def send(self, client: Any) -> tuple[int, str]:
        """Return the status, and the answer with its headers without what the request has sent, which may be echoed."""
        url = self.path + (f"?{urlencode(self.query)}" if self.query else "")
        response = client.get(url) if self.form is None else client.post(url, dict(self.form))
        text = _text(response)
        if response.status_code == 302 and "messages" in response.cookies:  # the next page shows them
            text += _text(client.get(response.url))
        sent = [part for part in self.path.split("/") if part.startswith("zyx") or len(part) > 8]
        sent += [value for _, value in (*self.query, *(self.form or ())) if len(value) > 8]
        for value in sorted(filter(None, sent), key=len, reverse=True):
            for form in (value, quote(value), quote(value, safe=""), html.escape(value), urlencode({"": value})[1:]):
                text = text.replace(form, "")
        return response.status_code, text


def _text(response: Any) -> str:
    body = b"".join(response.streaming_content) if response.streaming else response.content
    return body.decode(errors="replace") + str(response.headers)


def patterns() -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield each URL for staff users: its route, its name with its namespace, and its parameters."""

    def walk(found: Any, prefix: str, spaces: tuple[str, ...]) -> Iterator[tuple[str, str, frozenset[str]]]:
        for pattern in found:
            route = prefix + str(pattern.pattern)
            if hasattr(pattern, "url_patterns"):
                inner = (pattern.namespace,) if pattern.namespace else ()
                yield from walk(pattern.url_patterns, route, spaces + inner)
            elif route.startswith(PREFIXES):
                yield route, ":".join((*spaces, pattern.name or "")), frozenset(pattern.pattern.regex.groupindex)

    yield from walk(get_resolver().url_patterns, "", ())


def model_of(name: str) -> type | None:
    """Return the model of a page of the admin, named as in `admin:instances_apikey_revoke`."""
    parts = name.removeprefix("admin:").split("_")
    for model in admin.site._registry:
        if parts[:2] == [model._meta.app_label, model._meta.model_name]:
            return model
    return None


#: A document of each kind, by the name of the URL; they show nothing of instances.
DOCUMENTS = {
    "documents:event": "messages.upsert",
    "documents:schema": "messages.upsert",
    "documents:rest_group": "instance",
    "documents:guide": "quick-start",
}


def paths(route: str, name: str, parameters: frozenset[str], ids: dict[type, Any], rows: Rows | None) -> list[str]:
    """Return the paths of a URL for these rows. Raises LookupError for a URL that this table does not know."""
    if not parameters:
        return [f"/{route}"]
    if name == "admin:":  # the redirect to the page of an object, and the page for what is not found
        beginning = route.partition("<")[0]
        model = model_of(f"admin:{'_'.join(beginning.split('/')[1:3])}")
        return [f"/{beginning}{ids[model]}/"] if model in ids else ["/admin/no-such-page/"]
    if name == "admin:view_on_site":
        return []  # no model has an URL of its own
    if name == "admin:app_list":
        return [reverse(name, args=[app]) for app in ("instances", "realtime", "auth")]
    if parameters <= {"object_id", "id"} and (model := model_of(name)):
        return [reverse(name, args=[ids[model]])] if model in ids else []
    if name.startswith("console:") and parameters <= {"name", "reference", "pk"}:
        known = {"name": rows.instance.name, "reference": rows.reference, "pk": ids[Delivery]} if rows else {}
        return [reverse(name, kwargs={each: known[each] for each in parameters})] if rows else []
    if name.startswith("inbox-") and parameters <= {"pk", "request_pk"}:
        known = {"pk": ids.get(Inbox), "request_pk": ids.get(InboxRequest)}
        return [reverse(name, kwargs={each: known[each] for each in parameters})] if Inbox in ids else []
    if name in DOCUMENTS:
        return [reverse(name, args=[DOCUMENTS[name]])]
    raise LookupError(f"Add a row for {name} ({route}) to tests/end_to_end/walk.py")


def queries(name: str, rows: Rows) -> list[tuple[tuple[str, str], ...]]:
    """Return queries of a URL that ask for these rows."""
    instance = str(rows.instance.pk)
    terms = [rows.name, f"{rows.name}WAID", rows.reference, rows.instance.number or ""]
    if name.endswith("_changelist"):
        is_of_log = model_of(name) in (Event, Delivery, Message)
        found = [(("q", term),) for term in (terms[:3] if is_of_log else terms[::3])]
        columns = {each.name: each for each in model_of(name)._meta.get_fields()}  # type: ignore[union-attr]
        found += [((column, instance),) for column in ("instance_id", "instance__id__exact") if "instance" in columns]
        found += [(("instance_id", instance),)] if "instance_id" in columns else []
        return found
    if name == "admin:autocomplete":
        fields = [(ApiKey, "instances"), (Subscription, "instance")]
        asked = [
            (("app_label", "instances"), ("model_name", model._meta.model_name), ("field_name", each), ("term", term))
            for model, each in fields
            for term in ("", rows.name)
        ]
        return asked
    if name.endswith("_add"):
        return [(("instance", instance), ("instances", instance))]
    if name in ("", "admin:search"):
        return [(("s", term),) for term in terms]
    if name == "admin:realtime_delivery_resend":
        return [(("ids", str(rows.ids[Delivery])),), (("instance", instance),)]
    if name in ("admin:realtime_process_connected", "admin:realtime_delivery_failures"):
        return [(("instance_id", instance),), (("q", rows.name),)]
    if name == "console:index":
        return [(("q", rows.name[:-1]),), (("choose", "1"),)]
    if name == "console:names":
        return [(("q", rows.name[:-1]),)]
    if name == "console:states":
        return [(("of", f"{rows.event.seq}@{rows.instance.name}"),)]
    return []


#: URLs that end the session, or that take seconds and show nothing of instances.
LEFT_OUT = {"admin:logout", "admin:login", "admin:jsi18n", "documents:openapi"}


def requests(rows: Rows, ids: dict[type, Any], is_own: bool) -> list[Request]:
    """Return the requests of the walk: each URL for these rows and, for those of others, with queries and as POSTs."""
    found = []
    for route, name, parameters in patterns():
        if name in LEFT_OUT:
            continue
        for path in paths(route, name, parameters, ids, rows):
            found.append(Request(path))
            if not is_own:
                found += [Request(path, query) for query in queries(name, rows)]
            if not is_own and (parameters or name.endswith(("resend", "retry", "cut", "cut_all"))):
                form = {"post": "yes", "instance_id": str(rows.instance.pk), "instance": str(rows.instance.pk)}
                form |= {"state": "dead", "event_type": "call", "text": "zyx", "number": "1"}
                form |= {"cause": "", "endpoint": str(rows.ids[Subscription])}
                found.append(Request(path, (), tuple(form.items())))
                if name.endswith("resend"):
                    ids_sent = ("ids", str(rows.ids[Delivery]))
                    found.append(Request(path, (ids_sent,), (*form.items(), ids_sent)))
        if not is_own and name.endswith("_changelist"):
            model = model_of(name)
            actions = re.findall(r"\w+", " ".join(admin.site._registry[model].actions))  # type: ignore[index]
            for action in ("delete_selected", *actions):
                form = {"action": action, "_selected_action": str(ids.get(model, 1)), "post": "yes"}
                found.append(Request(f"/{route}", (), tuple(form.items())))
    return found
