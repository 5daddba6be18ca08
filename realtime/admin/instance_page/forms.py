"""Forms of what is done with an instance."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from instances.api.message_bodies import TextBody
from instances.events import EventType, grouped_types
from instances.models import Instance


class ConfirmForm(forms.Form):
    """A form without fields: sending it confirms."""

    def __init__(self, instance: Instance, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance = instance


class NameForm(ConfirmForm):
    """A confirmation by the name of the instance, which is typed."""

    name = forms.CharField(required=False, widget=UnfoldAdminTextInputWidget({"autocomplete": "off"}))

    def __init__(self, instance: Instance, *args: Any, **kwargs: Any) -> None:
        super().__init__(instance, *args, **kwargs)
        self.fields["name"].label = f"Type the name of the instance to confirm: {instance.name}"

    def clean_name(self) -> str:
        name = self.cleaned_data["name"]
        if not is_name_of(self.instance, name):
            raise ValidationError(f"This is not the name of the instance. Nothing was done. Type: {self.instance.name}")
        return name


def is_name_of(instance: Instance, typed: str) -> bool:
    """Return whether a text that was typed is the name of the instance; spaces around it do not count."""
    return typed.strip() == instance.name.strip()


def _event_types() -> list[tuple[str, list[tuple[str, str]]]]:
    return [
        (str(group.label), [(each.value, f"{each.value}: {each.label}") for each in types])
        for group, types in grouped_types().items()
    ]


class TestEventForm(ConfirmForm):
    """The type of a test event."""

    event_type = forms.ChoiceField(
        label="Type of the event",
        choices=_event_types,
        initial=EventType.MESSAGES_UPSERT.value,
        widget=UnfoldAdminSelectWidget,
    )


class TestMessageForm(ConfirmForm):
    """A text message and its number, validated as REST does."""

    number = forms.CharField(
        label="To the number",
        max_length=255,
        widget=UnfoldAdminTextInputWidget({"inputmode": "tel", "autocomplete": "off"}),
        help_text="With its country code, digits alone, such as 5511988887777.",
    )
    text = forms.CharField(
        max_length=65_536, initial="Test from evoapi", widget=UnfoldAdminTextareaWidget({"rows": 3}), strip=False
    )
    #: Makes a repeat of the form safe: it is sent once.
    id = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    #: The members of the body, as `Sending` takes them.
    validated: dict[str, Any]

    def clean_number(self) -> str:
        """Return the digits of a number; an address of WhatsApp, such as a group's, stays as it is."""
        number = self.cleaned_data["number"]
        if "@" in number:
            return number
        digits = "".join(character for character in number if character not in "+ ()-.")
        if not (digits.isascii() and digits.isdigit()):
            raise ValidationError("Digits alone, with the country code.")
        return digits

    def clean(self) -> None:
        super().clean()
        if self.errors:
            return
        cleaned = self.cleaned_data
        body = TextBody(data={"number": cleaned["number"], "text": cleaned["text"], "id": str(cleaned["id"])})
        if body.is_valid():
            self.validated = body.validated_data
            return
        for name, errors in body.errors.items():
            for error in errors:
                self.add_error(name if name in self.fields else None, f"{name} {error}.")
