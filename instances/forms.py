"""What people fill in by hand, and what can be wrong with it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import ValidationError
from django.utils import timezone

from instances.crypto import Secret
from instances.events import SUBSCRIBABLE
from instances.models import ApiKey, Instance, Integration, Subscription
from instances.names import is_number
from instances.providers import providers


class NumberForm(forms.ModelForm):
    """What is the same for new instances and known ones."""

    def clean_number(self) -> str | None:
        number = self.cleaned_data["number"]
        if number and not is_number(number):
            raise ValidationError("A number begins with a digit and has no spaces, plus signs or brackets.")
        return number

    def ask_provider(self) -> None:
        try:
            providers()[self.instance.integration].check_new(self.instance)
        except ValueError as error:
            # its first word is what is missing
            name = str(error).partition(" ")[0].replace("token", "own_token")
            self.add_error(name if name in self.fields else None, str(error))


class NewInstanceForm(NumberForm):
    #: `token` is the model's own, which no form may show.
    own_token = forms.CharField(
        label="Token",
        required=False,
        max_length=4096,
        # and it does not come back with an error elsewhere in the form
        widget=forms.PasswordInput(attrs={"class": "vTextField", "autocomplete": "off"}),
        help_text="The instance's own key. Empty: one is made. Cloud API: the Graph API's token, which must be given.",
    )

    class Meta:
        model = Instance
        fields = ("name", "integration", "number", "business_id")

    def clean(self) -> None:
        """Settle what is not asked for, as POST /instance/create does."""
        super().clean()
        if self.errors:
            return
        instance = self.instance
        instance.integration, instance.number = self.cleaned_data["integration"], self.cleaned_data["number"]
        instance.connection_state = providers()[instance.integration].initial_state
        if token := self.cleaned_data["own_token"]:
            instance.give_token(token)
            if instance.integration == Integration.CLOUD_API:
                instance.provider_token = Secret(token)
        self.ask_provider()


class InstanceForm(NumberForm):
    class Meta:
        model = Instance
        fields = ("number", "business_id", "owner_jid", "profile_name", "profile_pic_url", "connection_state")
        widgets = {"profile_pic_url": AdminTextInputWidget}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "connection_state" in self.fields:
            self.fields["connection_state"].show_hidden_initial = True

    def clean_profile_pic_url(self) -> str | None:
        return self.cleaned_data["profile_pic_url"] or None

    def clean_connection_state(self) -> str:
        """A page that was open for a while must not take back what has happened meanwhile."""
        if "connection_state" in self.changed_data:
            return self.cleaned_data["connection_state"]
        return self.instance.connection_state

    def clean(self) -> None:
        super().clean()
        if "number" in self.changed_data and not self.errors:
            self.instance.number = self.cleaned_data["number"]
            self.ask_provider()
            # Django leaves it out: the integration, on which it depends, is not in this form
            self.instance.validate_constraints()


SCOPES = {
    ApiKey.Scope.LISTEN: "hear events over Socket.IO, and mint tokens that let pages hear them",
    ApiKey.Scope.READ: "look up instances, their settings and what they have stored",
    ApiKey.Scope.SEND: "send messages",
    ApiKey.Scope.PUBLISH: "post what comes in to the Evolution channel",
    ApiKey.Scope.MANAGE: "change settings, delete, read tokens and rotate them",
}


class ApiKeyForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, f"{scope}: {meaning}") for scope, meaning in SCOPES.items()],
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = ApiKey
        fields = ("name", "scopes", "all_instances", "instances", "expires_at")

    def clean_expires_at(self) -> datetime | None:
        expires_at = self.cleaned_data["expires_at"]
        if "expires_at" in self.changed_data and expires_at and expires_at <= timezone.now():
            raise ValidationError("This moment is past.")
        return expires_at

    def clean(self) -> None:
        super().clean()
        if not self.cleaned_data.get("all_instances") and not self.cleaned_data.get("instances"):
            self.add_error("instances", "Choose the instances that this key opens, or all.")


class SubscriptionForm(forms.ModelForm):
    events = forms.MultipleChoiceField(
        choices=[(name, name) for name in SUBSCRIBABLE],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None: all that Evolution API has. A subscription that is off keeps none.",
    )

    class Meta:
        model = Subscription
        fields = ("instance", "is_enabled", "events")
        help_texts = {"instance": ""}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "instance" in self.fields:
            self.fields["instance"].required = True  # sockets are an instance's own

    def clean_instance(self) -> Instance:
        instance = self.cleaned_data["instance"]
        if instance.subscriptions.for_sockets().exists():
            raise ValidationError("This instance has websocket settings already: change those.")
        return instance
