"""Forms of the admin pages, and their validation."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

import orjson
from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from instances.access.rights import RIGHTS
from instances.admin import transport_fields
from instances.admin.event_checkboxes import EventCheckboxes, event_choices
from instances.admin.transport_fields import OptionsForm, WriteOnly
from instances.api.transports import TransportSettings, registered_transports
from instances.api.webhook import apply_changes, require_room
from instances.crypto import MASK, Secret
from instances.errors import ApiError
from instances.events import SUBSCRIBABLE
from instances.integrations import MEMBERS, described, integration_of, integrations
from instances.models import ApiKey, Instance, Subscription
from instances.names import is_number
from instances.outbound.inbox_urls import check_receiver
from instances.outbound.webhook_headers import check_headers
from instances.outbound.webhook_secrets import new_secret
from instances.outbound.webhook_urls import is_same_origin, masked_url
from instances.providers import provider_of


class UrlField(forms.CharField):
    """The URL of a webhook; the form checks its host."""

    def __init__(self, **options: Any) -> None:
        widget = UnfoldAdminTextInputWidget({"inputmode": "url", "placeholder": "https://"})
        super().__init__(label="URL", required=False, max_length=2048, widget=widget, **options)


#: The fields of the forms for members of POST /instance/create; the token's is not the model's, which no form shows.
_FIELDS = MEMBERS | {"token": "own_token"}


class NumberForm(forms.ModelForm):
    """Validation of the number, for the forms that add and change instances."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for member, name in MEMBERS.items():
            if name in self.fields:
                self.fields[name].help_text = self.description(member)

    def description(self, member: str) -> str:
        """Return what a member of the instance is for its integration."""
        return self.instance.provider.members.get(member, "")

    def clean_number(self) -> str | None:
        number = self.cleaned_data["number"]
        if number and not is_number(number):
            raise ValidationError("A number begins with a digit and has no spaces, plus signs or brackets.")
        return number

    def check_with_provider(self) -> None:
        """Add the error of the provider, if it has one, to the field that is missing."""
        try:
            provider_of(self.instance).check_new(self.instance)
        except ApiError as error:
            self.add_error(None, str(error.detail))
        except ValueError as error:
            # the error begins with the name of the missing member
            name = _FIELDS.get(str(error).partition(" ")[0])
            self.add_error(name if name in self.fields else None, str(error))


def _integration_choices() -> list[tuple[str, str]]:
    return [(name, integration.label) for name, integration in integrations().items()]


class NewInstanceForm(NumberForm):
    integration = forms.ChoiceField(
        choices=_integration_choices,
        initial=Instance._meta.get_field("integration").default,
        widget=UnfoldAdminSelectWidget,
    )
    #: A field besides the model's `token`, whose value no form may show.
    own_token = forms.CharField(
        label="Token",
        required=False,
        max_length=4096,
        # a PasswordInput is not filled in again when another field has an error
        widget=UnfoldAdminPasswordWidget({"autocomplete": "off"}),
        help_text="The instance's own key. Empty: it is generated.",
    )

    #: True if the user may choose the instance's own token, with which all scopes come. Otherwise it is generated, and
    #: the token is the provider's credential alone, where it has one.
    may_choose_token = False

    class Meta:
        model = Instance
        fields = ("name", "integration", "number", "business_id")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = self.fields["own_token"]
        own_key = str(own.help_text) if self.may_choose_token else "Leave it empty, unless your provider needs one."
        own.help_text = " ".join(filter(None, [own_key, described("token")]))

    def description(self, member: str) -> str:
        return described(member)

    def clean_own_token(self) -> str:
        token = self.cleaned_data["own_token"]
        integration = integration_of(self.cleaned_data.get("integration", ""))
        if token and not self.may_choose_token and not integration.token_is_credential:
            raise ValidationError("You cannot choose an instance's own key: docs/rights.md says who can.")
        return token

    def clean(self) -> None:
        """Set the fields that the form does not have, as POST /instance/create does."""
        super().clean()
        if self.errors:
            return
        instance = self.instance
        for name in ("integration", "number", "business_id"):
            setattr(instance, name, self.cleaned_data[name])
        instance.connection_state = instance.provider.initial_state
        if token := self.cleaned_data["own_token"]:
            if self.may_choose_token:
                instance.give_token(token)
            if instance.provider.token_is_credential:
                instance.provider_token = Secret(token)
        self.check_with_provider()


class InstanceForm(NumberForm):
    class Meta:
        model = Instance
        fields = ("number", "business_id", "owner_jid", "profile_name", "profile_pic_url", "connection_state")
        widgets = {"profile_pic_url": UnfoldAdminTextInputWidget}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "connection_state" in self.fields:
            self.fields["connection_state"].show_hidden_initial = True

    def clean_profile_pic_url(self) -> str | None:
        return self.cleaned_data["profile_pic_url"] or None

    def clean_connection_state(self) -> str:
        """Keep a state that changed while the page was open, unless this form changes it too."""
        if "connection_state" in self.changed_data:
            return self.cleaned_data["connection_state"]
        return self.instance.connection_state

    def clean(self) -> None:
        super().clean()
        changed = {"number", "business_id"}.intersection(self.changed_data)
        if changed and not self.errors:
            for name in changed:
                setattr(self.instance, name, self.cleaned_data[name])
            self.check_with_provider()


#: The meanings of scopes, by scope.
SCOPES = {scope: right.meaning for scope, right in RIGHTS.items()}


class ApiKeyForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope, f"{scope}: {meaning}") for scope, meaning in SCOPES.items()],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
    )
    #: Scopes that the user has, and so can give.
    offered_scopes: frozenset[str] = frozenset()

    class Meta:
        model = ApiKey
        fields = ("name", "scopes", "all_instances", "instances", "expires_at")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields.get("scopes")
        if field and len(self.offered_scopes) < len(SCOPES):
            field.choices = [choice for choice in field.choices if choice[0] in self.offered_scopes]
            field.help_text = "Only scopes that you have yourself can be given: docs/rights.md says what each needs."

    def clean_expires_at(self) -> datetime | None:
        expires_at = self.cleaned_data["expires_at"]
        if "expires_at" in self.changed_data and expires_at and expires_at <= timezone.now():
            raise ValidationError("This time is in the past.")
        return expires_at

    def clean(self) -> None:
        super().clean()
        if not self.cleaned_data.get("all_instances") and not self.cleaned_data.get("instances"):
            self.add_error("instances", "Choose the instances that this key gives access to, or all instances.")


def _transport_choices() -> list[tuple[str, str]]:
    return [(name, name) for name in (Subscription.WEBSOCKET, *registered_transports())]


REMOVED_HEADERS = "The stored headers are removed, because the URL leads to another host: set them again."
REMOVED_SECRETS = "The stored secrets are removed, because other options have changed: set them again."


class SubscriptionForm(forms.ModelForm):
    """The form of a subscription; `subscription_form` adds the options that transports declare."""

    transport = forms.ChoiceField(
        choices=_transport_choices,
        required=False,
        initial=Subscription.WEBSOCKET,
        widget=UnfoldAdminSelectWidget,
    )
    events = forms.MultipleChoiceField(
        choices=event_choices(),
        required=False,
        widget=EventCheckboxes,
        help_text="None selected: all events. Disabled websocket settings keep no events.",
    )
    url = UrlField(
        help_text="Events are posted to this URL. Its host must be public, or in WEBHOOK_ALLOWED_NETWORKS. To try it "
        "without a server, make an inbox at /console/inbox/."
    )
    by_events = forms.BooleanField(
        label="By events",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Append the event type to the URL: …/messages-upsert.",
    )
    base64 = forms.BooleanField(
        label="Base64",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Media wanted inside the event. No event has any yet.",
    )
    ordered = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Send an event only when all earlier events are delivered or given up. Slower.",
    )
    follow_redirects = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Follow a 302 or 303 once, by GET without headers and body; a 2xx there counts. Such as Google Apps "
        "Script answers.",
    )
    headers = forms.CharField(
        required=False,
        max_length=64 * 1024,
        widget=WriteOnly({"rows": 3}),
        help_text="A JSON object that replaces the stored headers, whose values are not shown. Empty: keep the stored "
        "headers, unless the URL leads to another host. {}: remove them. jwt_key is not sent; it signs a token for "
        "Authorization.",
    )

    #: True if the user may see what the query of the URL holds.
    may_show_credentials = False
    #: True if the user may add a webhook or another endpoint.
    may_add_webhook = False
    #: True if the user may add an endpoint of all instances.
    may_serve_all_instances = True
    #: A sentence if saving has removed stored secrets, because they would be sent elsewhere.
    removed_secrets = ""
    #: The options of a transport that declares them.
    options: OptionsForm | None = None

    class Meta:
        model = Subscription
        fields = ("instance", "transport", "is_enabled", "events")
        help_texts = {"instance": ""}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "instance" in self.fields:
            names = [name for name, each in registered_transports().items() if each.takes_all_instances]
            self.fields["instance"].required = not self.may_serve_all_instances
            if self.may_serve_all_instances:
                self.fields["instance"].help_text = f"Empty: all instances; only for {', '.join(names)}."
        options = self.instance.options
        stored = {"url": self._shown(options.get("url", "")), "by_events": options.get("byEvents", False)}
        stored |= {name: options.get(name, False) for name in ("base64", "ordered")}
        stored["follow_redirects"] = options.get("followRedirects", False)
        stored |= transport_fields.initial(self.instance)
        self.initial = {**stored, **self.initial}
        if "transport" in self.fields and not self.may_add_webhook:
            field: Any = self.fields["transport"]
            field.choices = [choice for choice in field.choices if choice[0] == Subscription.WEBSOCKET]
            field.help_text = "To add an endpoint, you need to have the events yourself: docs/rights.md says how."

    def _shown(self, url: str) -> str:
        return url if self.may_show_credentials else masked_url(url)

    @property
    def transport_name(self) -> str:
        return self.cleaned_data.get("transport") or self.instance.transport

    def clean_url(self) -> str:
        """Return the URL; one that is posted as it was shown is the stored one."""
        url, stored = self.cleaned_data["url"], self.instance.options.get("url", "")
        if url == self._shown(stored):
            return stored
        if MASK in url:
            raise ValidationError(f"Replace {MASK} by what it stands for: you see less of the URL than is stored.")
        return url

    def clean_events(self) -> list[str]:
        """Return the events in Evolution API's order, in which its clients expect them."""
        return sorted(self.cleaned_data["events"], key=SUBSCRIBABLE.index)

    def clean_transport(self) -> str:
        return self.cleaned_data["transport"] or Subscription.WEBSOCKET

    def clean_headers(self) -> dict[str, str] | None:
        """Return the headers, or None for an empty field. The errors contain names of headers, never values."""
        text = self.cleaned_data["headers"]
        if not text:
            return None
        try:
            headers = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise ValidationError(f"This is not JSON: {error}") from None
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            raise ValidationError('Headers must be a JSON object of strings, such as {"Authorization": "Bearer …"}.')
        try:
            check_headers(headers)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        return headers

    def clean(self) -> None:
        super().clean()
        if self.transport_name == Subscription.WEBSOCKET:
            self._check_websocket()
        elif self.transport_name == Subscription.WEBHOOK:
            self._check_room()
            self._check_url()
        elif transport := transport_fields.transport_of(self.transport_name):
            self._check_declared(transport)

    def _check_declared(self, transport: TransportSettings) -> None:
        instance = self.cleaned_data.get("instance") or self.instance.instance
        if instance is None and not transport.takes_all_instances and "instance" in self.fields:
            self.add_error("instance", "This field is required.")
            return
        if self.cleaned_data.get("is_enabled"):
            try:
                transport.check(instance)
            except ValueError as error:
                self.add_error("is_enabled", f"{error}.")
        self.options = OptionsForm(transport, self.instance, self.cleaned_data)
        self.options.validate(self.add_error)

    def _check_websocket(self) -> None:
        if not self.instance._state.adding or "instance" in self.errors:
            return
        instance = self.cleaned_data.get("instance")
        if instance is None:  # websocket settings always belong to an instance
            self.add_error("instance", "This field is required.")
        elif instance.subscriptions.for_sockets().exists():
            self.add_error("instance", "This instance has websocket settings already: change those.")

    def _check_room(self) -> None:
        instance = self.cleaned_data.get("instance")
        if self.instance._state.adding and instance is not None:
            Instance.objects.select_for_update().filter(pk=instance.pk).first()  # until the row is saved
            try:
                require_room(instance)
            except ApiError as error:
                self.add_error("instance", f"{error.detail}.")

    def _check_url(self) -> None:
        """Check the URL, unless it is unchanged and disabled: clients leave invalid URLs in disabled webhooks."""
        url = self.cleaned_data.get("url", "")
        if "url" in self.errors or not (self.cleaned_data.get("is_enabled") or "url" in self.changed_data):
            return
        try:
            check_receiver(url)
        except ValueError as error:
            self.add_error("url", str(error) if url else "This field is required.")

    def save(self, commit: bool = True) -> Any:
        if self.transport_name == Subscription.WEBHOOK:
            self._apply_options(self.instance)
        elif self.options is not None:
            self.options.save()
            self.removed_secrets = REMOVED_SECRETS if self.options.removes_secrets else ""
            if self.cleaned_data["is_enabled"] and self.changed_data:
                self.instance.failing_since, self.instance.disabled_reason = None, ""
        return super().save(commit)

    def _apply_options(self, endpoint: Subscription) -> None:
        cleaned = self.cleaned_data
        changes = {"url": cleaned["url"], "byEvents": cleaned["by_events"]}
        changes["followRedirects"] = cleaned["follow_redirects"]
        changes |= {name: cleaned[name] for name in ("base64", "ordered")}
        if cleaned["headers"] is not None:
            changes["headers"] = cleaned["headers"]
        elif endpoint.secret("headers") and not is_same_origin(endpoint.options.get("url", ""), cleaned["url"]):
            # who changes the URL may not know them, unlike a key with the scope `manage`, and its receiver is not to
            changes["headers"], self.removed_secrets = {}, REMOVED_HEADERS
        if cleaned["is_enabled"] and not {"is_enabled", "url"}.isdisjoint(self.changed_data):
            changes["enabled"] = True  # resets the failures: it gets another chance
        apply_changes(endpoint, changes)
        if not endpoint.secret("signing"):
            endpoint.keep_secrets(signing=[new_secret()])


@cache
def subscription_form() -> type[SubscriptionForm]:
    """Return the form with the fields of all registered transports."""
    return type("SubscriptionForm", (SubscriptionForm,), dict(transport_fields.form_fields()))
