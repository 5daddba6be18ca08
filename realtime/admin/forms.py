"""What people fill in to have deliveries sent again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.core.exceptions import ValidationError
from django.db.models import QuerySet

from instances.admin.forms import UrlField, WriteOnly
from instances.models import Instance, Subscription
from instances.outbound.ssrf_guard import check_url
from instances.outbound.webhook_secrets import check_secret
from realtime.api.delivery_serializers import MAX_IDS
from realtime.api.endpoints import is_id
from realtime.delivery.models import Delivery, State
from realtime.delivery.resend import TargetOverride, in_range


class MomentField(forms.DateTimeField):
    """The browser's own field, in UTC."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S")
        super().__init__(required=False, widget=widget, **kwargs)


class TargetOverrideForm(forms.Form):
    """Where deliveries go: to their endpoints, or to another URL."""

    url = UrlField(help_text="Empty: to their endpoints. Another URL gets them without the headers of any endpoint.")
    secret = forms.CharField(
        required=False,
        widget=WriteOnly(attrs={"rows": 1, "class": "vLargeTextField", "autocomplete": "off", "spellcheck": "false"}),
        help_text="What they are signed with at another URL: whsec_ and base64, as Standard Webhooks has it.",
    )

    def clean_url(self) -> str:
        url = self.cleaned_data["url"]
        if url:
            _checked(check_url, url)
        return url

    def clean_secret(self) -> str:
        secret = self.cleaned_data["secret"]
        if secret:
            _checked(check_secret, secret)
        return secret

    def clean(self) -> None:
        super().clean()
        if self.cleaned_data.get("url") and not self.cleaned_data.get("secret") and "secret" not in self.errors:
            self.add_error("secret", "A URL wants a secret.")

    @property
    def override(self) -> TargetOverride | None:
        told = self.cleaned_data
        return TargetOverride(told["url"], told["secret"], is_operators=True) if told["url"] else None


def _checked(check: Any, value: str) -> None:
    try:
        check(value)
    except ValueError as error:
        raise ValidationError(f"{error}.") from None


class ChosenForm(TargetOverrideForm):
    """For deliveries that were chosen one by one."""

    ids = forms.CharField(widget=forms.HiddenInput)

    def clean_ids(self) -> list[int]:
        ids = self.cleaned_data["ids"].split(",")
        if len(ids) > MAX_IDS or not all(map(is_id, ids)):
            raise ValidationError(f"These are no deliveries, or more than {MAX_IDS}.")
        return [int(pk) for pk in ids]

    @property
    def deliveries(self) -> QuerySet[Delivery]:
        return Delivery.objects.filter(pk__in=self.cleaned_data["ids"])

    @property
    def subjects(self) -> list[Any]:
        """What the admin's history is of."""
        return list(self.deliveries.defer("body"))


class InstanceSelect(AutocompleteSelect):
    def __init__(self) -> None:
        super().__init__(Subscription._meta.get_field("instance"), admin.site)

    def optgroups(self, name: str, value: Sequence[str], attr: dict[str, Any] | None = None) -> list[Any]:
        """Django's looks up what was sent, and fails for what is no id."""
        try:
            return super().optgroups(name, value, attr)
        except ValidationError:
            return super().optgroups(name, [], attr)


class RangeForm(TargetOverrideForm):
    """For what happened to one instance in some time."""

    instance = forms.ModelChoiceField(Instance.objects.all(), widget=InstanceSelect)
    since = MomentField(help_text="In UTC, by when they were made. Empty: from the beginning.")
    until = MomentField(help_text="In UTC; what was made then is left out. Empty: until now.")
    state = forms.MultipleChoiceField(
        choices=[choice for choice in State.choices if choice[0] != State.PENDING],
        initial=[State.DEAD],
        widget=forms.CheckboxSelectMultiple,
        help_text="What was sent again already is left out.",
    )
    endpoint = forms.IntegerField(
        required=False,
        min_value=-(2**63),
        max_value=2**63 - 1,
        help_text="The number in the address of its page. Empty: all of the instance.",
    )

    @property
    def deliveries(self) -> QuerySet[Delivery]:
        limits = {name: self.cleaned_data[name] for name in ("since", "until", "state", "endpoint")}
        return in_range(Delivery.objects.all(), self.cleaned_data["instance"].pk, **limits)

    @property
    def subjects(self) -> list[Any]:
        """What the admin's history is of."""
        return [self.cleaned_data["instance"]]
