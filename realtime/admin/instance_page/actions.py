"""Actions on an instance, on its page. Those that destroy ask for its name; each is recorded in its history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from rest_framework.exceptions import APIException

from instances.access.rights import Action, may
from instances.admin import admin_url
from instances.admin.secret import explain_unreadable
from instances.api.connection import check_restart, connect
from instances.bounds import RESENT
from instances.errors import ApiError
from instances.events import EventType
from instances.models import Instance, Message, Subscription
from instances.outbound_message import MessageKind
from instances.providers import provider_of
from instances.sending import send_message
from realtime.admin.base import actor
from realtime.admin.instance_page.deletion import InstanceDeletion
from realtime.admin.instance_page.forms import ConfirmForm, NameForm, TestEventForm, TestMessageForm
from realtime.admin.overview.words import plural
from realtime.delivery.models import Delivery
from realtime.delivery.resend import in_range, live_endpoints, send_again, send_test
from realtime.fanout.connected import Connected, NotServing, Selection

#: Endpoints that one test event is sent to.
MAX_TESTED = 100


@dataclass(frozen=True)
class Question:
    """A page that asks before something is done."""

    title: str
    #: Sentences on what will happen.
    texts: list[str]
    button: str
    form: ConfirmForm
    is_destructive: bool = False


class InstanceActions(InstanceDeletion):
    """The admin of instances with the pages and buttons of what is done with one."""

    def get_urls(self) -> list[URLPattern]:
        views: dict[str, Callable[..., HttpResponse]] = {
            "connect": require_POST(self.connect_view),
            "restart": require_POST(self.restart_view),
            "log-out": self.log_out_view,
            "rotate-token": self.rotate_token_view,
            "test-event": self.test_event_view,
            "test-message": self.test_message_view,
            "resend": self.resend_view,
            "cut": self.cut_view,
        }
        own = [
            path(
                f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=f"instances_instance_{_name(name)}"
            )
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    # Buttons

    def connect_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Open the connection, as GET /instance/connect/<instance> does."""
        instance = self.instance_for(request, object_id, Action.CONNECT)
        was = instance.connection_state
        try:
            connected = connect(instance, lambda: self._locked(instance))
        except ApiError as error:
            self._fail(request, error, f"{instance.provider.label} instances are connected by their engine alone.")
            return self._to_page(instance)
        if connected.connection_state != was:
            self.log_change(request, connected, "Connected.")
            self.message_user(request, f"The connection is {connected.connection_state}.", messages.SUCCESS)
        elif was == "open":
            self.message_user(request, "The connection is open already.", messages.INFO)
        else:
            text = f"The connection stays {was}: its engine reports the state, and has to connect."
            self.message_user(request, text, messages.WARNING)
        return self._to_page(instance)

    def restart_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Restart the connection, as POST /instance/restart/<instance> does."""
        instance = self.instance_for(request, object_id, Action.CONNECT)
        try:
            check_restart(instance)
        except ApiError as error:
            self._fail(request, error, "Only an open connection can be restarted.")
            return self._to_page(instance)
        self.log_change(request, instance, "Restarted.")
        text = "This server holds no connection to WhatsApp of its own, so nothing had to be restarted here"
        self.message_user(request, f"{text}. The connection is {instance.connection_state}.", messages.SUCCESS)
        return self._to_page(instance)

    # Pages

    def log_out_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        instance = self.instance_for(request, object_id, Action.CONNECT)
        form = NameForm(instance, request.POST or None)
        if form.is_valid():
            with transaction.atomic():
                was_open = self._locked(instance).log_out()
                if was_open:
                    self.log_change(request, instance, "Logged out.")
            if was_open:
                self.message_user(
                    request, "Logged out: it sends nothing until it is connected again.", messages.SUCCESS
                )
            else:
                self.message_user(request, "The connection was closed already.", messages.WARNING)
            return self._to_page(instance)
        texts = ["The instance sends no messages until somebody connects it again. What comes in is still recorded."]
        return self._ask(request, instance, Question("Log out", texts, "Log out", form, is_destructive=True))

    @explain_unreadable
    def rotate_token_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        instance = self.instance_for(request, object_id, Action.ROTATE_TOKEN)
        form = NameForm(instance, request.POST or None)
        if form.is_valid():
            with transaction.atomic():
                locked = self._locked(instance)
                locked.rotate_token()
                self.log_change(request, locked, "Rotated the token.")
            return self.show_once(request, locked, locked.token.reveal())
        texts = [
            "The old token is refused at once, and sockets that joined with it are cut. The new one is shown once.",
            "Every program that uses the token needs the new one.",
        ]
        return self._ask(request, instance, Question("Rotate the token", texts, "Rotate the token", form, True))

    def cut_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Disconnect all sockets and event streams of the instance that this process serves."""
        instance = self.instance_for(request, object_id, Action.CUT, Action.SEE_CONNECTED)
        form = NameForm(instance, request.POST or None)
        if form.is_valid():
            try:
                count = Connected.here().cut_all(Selection(frozenset({instance.pk})))
            except NotServing as error:
                self.message_user(request, str(error), messages.ERROR)
                return self._to_page(instance)
            if count:
                self.log_change(request, instance, f"Cut all {count} sockets and event streams of a process.")
            self.message_user(request, f"Cut: {count}.", messages.SUCCESS if count else messages.WARNING)
            return self._to_page(instance)
        texts = [
            "All sockets and event streams of this instance that this process serves are disconnected.",
            "A socket stays away until its program connects again; an event stream comes back by itself. To keep a "
            "client away, revoke its key.",
        ]
        return self._ask(request, instance, Question("Cut all sockets", texts, "Cut all sockets", form, True))

    def test_event_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a sample of an event to all webhooks of the instance that are on, also to those without its type."""
        instance = self.instance_for(request, object_id, Action.SEND_TEST)
        webhooks = instance.subscriptions.filter(transport=Subscription.WEBHOOK, is_enabled=True)
        targets = list(webhooks.order_by("pk")[:MAX_TESTED])
        form = TestEventForm(instance, request.POST or None)
        if targets and form.is_valid():
            event_type = EventType(form.cleaned_data["event_type"])
            try:
                with transaction.atomic():
                    sent = send_test(instance, event_type, targets, actor(request))
                    self.log_change(request, instance, f"Sent a test event of type {event_type.value}.")
            except ApiError as error:  # too many are pending
                self._fail(request, error)
                return self._to_page(instance)
            text = f"A test event of type {event_type.value} is queued for {plural(len(sent), 'webhook')}."
            links = admin_url("changelist", Delivery, instance_id=instance.pk)
            self.message_user(request, format_html('{} <a href="{}">Its deliveries</a>', text, links), messages.SUCCESS)
            return self._to_page(instance)
        if not targets:
            texts = ["This instance has no webhook that is on: add one, or switch one on."]
        else:
            texts = [f"A made-up event with test: true is sent to {plural(len(targets), 'webhook')} of this instance."]
            texts.append("It is not in the log, and sockets do not receive it.")
        return self._ask(request, instance, Question("Send a test event", texts, "Send" if targets else "", form))

    def test_message_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send a text message, as POST /message/sendText/<instance> does, and say what became of it."""
        instance = self.instance_for(request, object_id, Action.SEND_MESSAGE)
        form = TestMessageForm(instance, request.POST or None)
        note = provider_of(instance).note
        if form.is_valid():
            try:
                sent = send_message(instance, MessageKind.TEXT, form.validated)
            except APIException as error:
                is_refused = _is_refused(error)
                form.add_error(None, f"It was not sent: {_sentence(error)}" if is_refused else _sentence(error))
                if not is_refused:
                    self.log_change(request, instance, f"Tried to send a test message. {_sentence(error)}")
            else:
                return self._sent(request, instance, sent, note)
        texts = ["The message is really sent."] if not note else [f"{note}."]
        return self._ask(request, instance, Question("Send a test message", texts, "Send", form))

    def _sent(self, request: HttpRequest, instance: Instance, sent: dict[str, Any], note: str) -> HttpResponse:
        wa_id = sent["key"]["id"]
        self.log_change(request, instance, f"Sent a test message, {wa_id}.")
        row = Message.objects.filter(instance=instance, wa_id=wa_id).values_list("pk", flat=True).first()
        outcome = f"Handed to the engine as {wa_id}." if note else f"WhatsApp has accepted it as {wa_id}."
        text = format_html("{} {}", outcome, f"{note}." if note else "The page of the message has its status.")
        if row and request.user.has_perm("instances.view_message"):
            text = format_html('{} <a href="{}">The message</a>', text, admin_url("change", Message, row))
        self.message_user(request, text, messages.SUCCESS)
        return self._to_page(instance)

    def resend_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send all dead deliveries of the instance again whose endpoints are on, RESENT of them at most."""
        instance = self.instance_for(request, object_id, Action.RESEND)
        dead = in_range(Delivery.objects.visible_to(request.user), instance.pk)
        usable = list(live_endpoints(instance, with_global=True))
        found = dead.filter(endpoint_id__in=usable)
        form = ConfirmForm(instance, request.POST or None)
        if form.is_valid():
            try:
                with transaction.atomic():
                    resent = send_again(found, RESENT, actor(request))
                    if resent.copied:
                        self.log_change(request, instance, f"{resent}.")
            except ApiError as error:  # too many are pending
                self._fail(request, error)
                return self._to_page(instance)
            more = " There are more: do it again to send the rest." if resent.has_more else ""
            self.message_user(request, f"{resent}.{more}", messages.SUCCESS if resent.copied else messages.WARNING)
            return self._to_page(instance)
        count = found.order_by()[: RESENT + 1].count()
        shown = f"the first {RESENT:,}" if count > RESENT else plural(count, "dead delivery", "dead deliveries")
        texts = [f"Sends {shown} of this instance again, with the same ids and bytes."] if count else []
        off = list(instance.subscriptions.endpoints().exclude(pk__in=usable).values_list("pk", flat=True))
        if off and dead.filter(endpoint_id__in=off).exists():
            texts.append("Those to endpoints that are off are left out: switch them on first.")
        if not count:
            texts.insert(0, "There is no dead delivery to send again.")
        return self._ask(
            request, instance, Question("Send failed deliveries again", texts, "Send again" if count else "", form)
        )

    # Shared

    def instance_for(self, request: HttpRequest, object_id: str, *actions: Action) -> Instance:
        """Return an instance that the user may see and do this with. Raises PermissionDenied or Http404."""
        if not (self.has_view_permission(request) and all(may(request.user, action) for action in actions)):
            raise PermissionDenied
        instance = self.get_object(request, object_id)
        if instance is None:
            raise Http404
        return instance

    def _locked(self, instance: Instance) -> Instance:
        found = Instance.objects.locked().filter(pk=instance.pk).first()
        if found is None:
            raise Http404
        return found

    def _ask(self, request: HttpRequest, instance: Instance, page: Question) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"{page.title}: {instance.name}",
            "opts": self.opts,
            "original": instance,
            "page": page,
            "form": page.form,
        }
        return TemplateResponse(request, "admin/realtime/instance/ask.html", context)

    def _to_page(self, instance: Instance) -> HttpResponse:
        return HttpResponseRedirect(admin_url("change", Instance, instance.pk))

    def _fail(self, request: HttpRequest, error: APIException, more: str = "") -> None:
        self.message_user(request, f"{_sentence(error)} {more}".strip(), messages.ERROR)


def _name(name: str) -> str:
    return name.replace("-", "_")


def _sentence(error: APIException) -> str:
    """Return an error of REST as a sentence."""
    detail: Any = error.detail
    texts = [str(each) for each in detail] if isinstance(detail, list) else [str(detail)]
    return f"{', '.join(texts).rstrip('.')}."


def _is_refused(error: APIException) -> bool:
    """Return whether a message was certainly not sent."""
    return getattr(error, "details", {}).get("outcome") is None
