"""The part of a subscription's form that comes from the declaration of its transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from rest_framework import serializers
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from instances.api.fields import Flag
from instances.api.transports import TransportSettings, apply_options, declared_transports
from instances.crypto import UnreadableSecret
from instances.models import Subscription

KEPT = "Empty: keep the stored one, unless another option changes."


class WriteOnly(UnfoldAdminTextareaWidget):
    """A text area whose value is never rendered, not even when another field has an error."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__({"rows": 1, "autocomplete": "off", "spellcheck": "false"} | (attrs or {}))

    def format_value(self, value: Any) -> str:
        return ""


def field_names(transport: TransportSettings) -> dict[str, str]:
    """Return the names of the form's fields by option; two transports may have options of one name."""
    return {option: f"{transport.name}_{option}" for option in transport.fields}


def form_fields() -> dict[str, forms.Field]:
    """Return the fields for the options of all transports; the options' serializer validates them."""
    fields = {}
    for transport in declared_transports():
        for option, name in field_names(transport).items():
            fields[name] = _form_field(option, transport.fields[option])
    return fields


def _form_field(option: str, field: serializers.Field) -> forms.Field:
    shown: dict[str, Any] = {"label": field.label or option, "help_text": field.help_text or "", "required": False}
    if field.default is not serializers.empty:
        shown["initial"] = field.default
    if field.write_only:
        shown["help_text"] = f"{shown['help_text']} {KEPT}".strip()
        return forms.CharField(widget=WriteOnly, strip=False, **shown)
    if isinstance(field, Flag | serializers.BooleanField):
        return forms.BooleanField(widget=UnfoldBooleanSwitchWidget, **shown)
    if isinstance(field, serializers.ChoiceField):
        return forms.ChoiceField(choices=[("", "-"), *field.choices.items()], widget=UnfoldAdminSelectWidget, **shown)
    if isinstance(field, serializers.IntegerField):
        return forms.IntegerField(widget=UnfoldAdminIntegerFieldWidget, **shown)
    return forms.CharField(widget=UnfoldAdminTextInputWidget, **shown)


def initial(endpoint: Subscription) -> dict[str, Any]:
    """Return the form's values for the stored options of a subscription."""
    transport = transport_of(endpoint.transport)
    if transport is None:
        return {}
    names = field_names(transport)
    return {names[option]: endpoint.options[option] for option in transport.shown_names if option in endpoint.options}


def transport_of(name: str) -> TransportSettings | None:
    """Return a transport whose form comes from its declaration, None for others."""
    return next((transport for transport in declared_transports() if transport.name == name), None)


class OptionsForm:
    """The options of one transport, as they are posted for one subscription."""

    def __init__(self, transport: TransportSettings, endpoint: Subscription, cleaned: dict[str, Any]) -> None:
        self.transport = transport
        self.endpoint = endpoint
        given = {option: cleaned.get(name) for option, name in field_names(transport).items()}
        self.given = {option: value for option, value in given.items() if value not in (None, "")}
        #: True if saving removes a stored secret: who changes the other options may not know it, and it must not go
        #: where they lead to.
        self.removes_secrets = False

    def validate(self, add_error: Callable[[str | None, Any], None]) -> None:
        """Validate the options as REST does, adding the errors to the form."""
        body = self.transport.options(data=self._with_stored_secrets())
        if body.is_valid():
            self.validated = dict(body.validated_data)
            return
        names = field_names(self.transport)
        for option, errors in body.errors.items():
            texts = [f"{option} {error}" if error.code not in ("required", "blank") else str(error) for error in errors]
            add_error(names.get(option), texts)

    def _with_stored_secrets(self) -> dict[str, Any]:
        stored = {} if self.endpoint._state.adding else self._stored_secrets()
        is_moved = any(self.given.get(name) != self.endpoint.options.get(name) for name in self.transport.shown_names)
        missing = {name: value for name, value in stored.items() if name not in self.given}
        self.removes_secrets = is_moved and bool(missing)
        return self.given if is_moved else self.given | missing

    def _stored_secrets(self) -> dict[str, Any]:
        try:
            stored = self.endpoint.all_secrets
        except UnreadableSecret:
            return {}
        return {name: stored[name] for name in self.transport.secret_names if stored.get(name) is not None}

    def save(self) -> None:
        """Set the options and secrets of the subscription, which the caller saves."""
        others = {k: v for k, v in self.endpoint.options.items() if k not in self.transport.shown_names}
        self.endpoint.options = others
        apply_options(self.transport, self.endpoint, dict.fromkeys(self.transport.secret_names) | self.validated)
