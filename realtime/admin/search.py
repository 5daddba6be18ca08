"""The search box of the admin: instances, events, messages and phone numbers, within what the user may see."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.contrib import admin
from django.db.models import Model, OuterRef, Q, Subquery
from django.db.models.functions import Length
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from instances.access.staff import sees_content, visible_instances, within_limit
from instances.admin import admin_url
from instances.bounds import SEARCH_HITS
from instances.models import Chat, Contact, Instance, Message
from instances.names import digits, jid
from realtime.admin.links import event_term
from realtime.admin.message_texts import MIN_TEXT, TextSearch
from realtime.log.models import Event
from realtime.log.stream import Stream

#: Characters of a search.
MAX_TERM = 200
#: Hits of one kind.
SHARE = SEARCH_HITS // 4
#: Digits that a phone number has at least.
MIN_DIGITS = 5

_PHONE_NUMBER = re.compile(r"\+?[0-9 ().-]+")


class Hit(NamedTuple):
    """A page that a search leads to."""

    title: str
    description: str
    url: str
    #: The name of an icon of Material Symbols.
    icon: str


class Search:
    """A search for one term by one user. Each kind is looked up in an index, texts in the newest messages."""

    def __init__(self, request: HttpRequest, term: str) -> None:
        self.request = request
        self.user = request.user
        self.term = term
        #: A sentence on how far texts were searched; "" if they were not.
        self.note = ""

    def hits(self) -> list[Hit]:
        """Return at most SEARCH_HITS hits, the most exact kinds first."""
        kinds: tuple[tuple[type[Model], Callable[[], Iterator[Hit]]], ...] = (
            (Instance, self._instances),
            (Event, self._events),
            (Message, self._messages),
            (Chat, lambda: self._addresses(Chat, "forum")),
            (Contact, lambda: self._addresses(Contact, "contacts")),
            (Message, self._texts),
        )
        found = [hit for model, find in kinds if self._may_view(model) for hit in find()] if self.term else []
        return found[:SEARCH_HITS]

    def _may_view(self, model: type[Model]) -> bool:
        return admin.site.get_model_admin(model).has_view_or_change_permission(self.request)

    @property
    def _number(self) -> str:
        """The digits of the term if it may be a phone number."""
        number = digits(self.term)
        return number if _PHONE_NUMBER.fullmatch(self.term) and len(number) >= MIN_DIGITS else ""

    def _instances(self) -> Iterator[Hit]:
        condition = Q(name__icontains=self.term)
        if self._number:
            condition |= Q(number__contains=self._number) | Q(owner_jid__startswith=self._number)
        found = visible_instances(self.user).filter(condition).only("name", "number", "connection_state")
        for instance in found.order_by(Length("name"), "name")[:SHARE]:
            description = ", ".join(filter(None, ("Instance", instance.connection_state, instance.number)))
            yield Hit(instance.name, description, admin_url("change", Instance, instance.pk), "smartphone")

    def _events(self) -> Iterator[Hit]:
        """Find events by id, by the instance's name and `seq`, or by `seq` alone."""
        event = event_term(self.term)
        if event is None:
            return
        lookup = {"epoch": event.epoch} if event.epoch else {"name__icontains": event.name}
        streams = within_limit(self.user, Stream.objects.filter(**lookup), "pk")
        # streams first, of which there is one for each instance: no index of events has `seq` alone
        ids = (
            streams.filter(first_seq__lte=event.seq, last_seq__gte=event.seq)
            .order_by(Length("name"), "name")
            .values_list("pk", flat=True)[:SHARE]
        )
        for row in Event.objects.filter(instance_id__in=list(ids), seq=event.seq).defer("envelope").order_by():
            yield Hit(f"{row.name} {row.seq}", f"Event, {row.type}", admin_url("change", Event, row.pk), "bolt")

    def _messages(self) -> Iterator[Hit]:
        for row in self._of_each_instance(Message, wa_id=self.term):
            title = f"{row['wa_id']}"
            yield Hit(title, f"Message of {row['name']}", admin_url("change", Message, row["found"]), "chat")

    def _addresses(self, model: Any, icon: str) -> Iterator[Hit]:
        """Find the chats or contacts of a phone number or another address, in any instance."""
        if "@" in self.term:
            addresses = {self.term, jid(self.term)}
        elif self._number:
            addresses = {f"{self._number}@s.whatsapp.net", jid(self._number)}
        else:
            return
        kind = str(model._meta.verbose_name).capitalize()
        for row in self._of_each_instance(model, remote_jid__in=sorted(addresses)):
            yield Hit(digits(self.term), f"{kind} of {row['name']}", admin_url("change", model, row["found"]), icon)

    def _of_each_instance(self, model: Any, **lookup: Any) -> Iterator[dict[str, Any]]:
        """Yield the name of an instance and the key of its row, for instances that have one.

        The indexes of messages, chats and contacts begin with the instance: a subquery for each instance uses them,
        where a join might read the table.
        """
        of_instance = model.objects.filter(instance_id=OuterRef("pk"), **lookup).order_by().values("pk")[:1]
        found = visible_instances(self.user).annotate(found=Subquery(of_instance)).exclude(found=None)
        for row in found.order_by().values("name", "found")[:SHARE]:
            yield row | {"wa_id": self.term}

    def _texts(self) -> Iterator[Hit]:
        if len(self.term) < MIN_TEXT or not sees_content(self.user):
            return
        search = TextSearch(self.user, self.term)
        search.run(SHARE)
        self.note = f"Texts were searched in the newest {search.looked_at:,} messages."
        for message, excerpt in search.found:
            url = admin_url("change", Message, message.pk)
            yield Hit(excerpt, f"Message of {message.instance.name}, {message.remote_jid}", url, "chat")


def search_page(request: HttpRequest) -> HttpResponse:
    """Show what a search finds: as a page, or for the box, which searches while one types, the list alone."""
    term = request.GET.get("s", "").replace("\x00", "").strip()[:MAX_TERM]
    search = Search(request, term)
    context: dict[str, Any] = {"term": term, "hits": search.hits(), "note": search.note}
    if request.headers.get("HX-Request"):
        return TemplateResponse(request, "admin/search_hits.html", context)
    context |= admin.site.each_context(request) | {"title": "Search"}
    return TemplateResponse(request, "admin/search.html", context)
