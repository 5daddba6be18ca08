"""Forms that send deliveries again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminTextInputWidget,
)

from instances.access.staff import sees_all_instances, visible_instances
from instances.admin.base import InstanceSelect
from instances.admin.forms import UrlField, WriteOnly
from instances.models import Instance
from instances.outbound.inbox_urls import check_receiver
from instances.outbound.webhook_secrets import check_secret
from realtime.api.delivery_serializers import MAX_IDS
from realtime.api.endpoints import is_id
from realtime.delivery.models import Delivery, DeliveryQuerySet, State
from realtime.delivery.resend import TargetOverride, in_range


class MomentWidget(UnfoldAdminTextInputWidget):
    """The browser's own picker of a date and a time."""

    def __init__(self) -> None:
        super().__init__({"type": "datetime-local", "step": "1"})

    def format_value(self, value: Any) -> Any:
        return value.strftime("%Y-%m-%dT%H:%M:%S") if isinstance(value, datetime) else value


class MomentField(forms.DateTimeField):
    """A date and time in UTC, with the browser's own picker."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, widget=MomentWidget, **kwargs)


class TargetOverrideForm(forms.Form):
    """The target of deliveries: their endpoints, or another URL with a secret of its own."""

    url = UrlField(help_text="Empty: send to their endpoints. Another URL gets none of the endpoints' headers.")
    secret = forms.CharField(
        required=False,
        widget=WriteOnly,
        help_text="Signs the deliveries to another URL: whsec_ and base64, as in Standard Webhooks.",
    )

    def clean_url(self) -> str:
        url = self.cleaned_data["url"]
        if url:
            _validate(check_receiver, url)
        return url

    def clean_secret(self) -> str:
        secret = self.cleaned_data["secret"]
        if secret:
            _validate(check_secret, secret)
        return secret

    def clean(self) -> None:
        super().clean()
        if self.cleaned_data.get("url") and not self.cleaned_data.get("secret") and "secret" not in self.errors:
            self.add_error("secret", "A URL requires a secret.")

    def __init__(self, user: Any, *args: Any, **kwargs: Any) -> None:
        """`user` sends deliveries that he may see alone."""
        super().__init__(*args, **kwargs)
        self.user = user

    @property
    def override(self) -> TargetOverride | None:
        url, secret = self.cleaned_data["url"], self.cleaned_data["secret"]
        return TargetOverride(url, secret, is_operators=sees_all_instances(self.user)) if url else None


def _validate(check: Callable[[str], Any], value: str) -> None:
    try:
        check(value)
    except ValueError as error:
        raise ValidationError(f"{error}.") from None


class SelectedForm(TargetOverrideForm):
    """Send the deliveries with these ids again."""

    ids = forms.CharField(widget=forms.HiddenInput)

    def clean_ids(self) -> list[int]:
        ids = self.cleaned_data["ids"].split(",")
        if len(ids) > MAX_IDS or not all(map(is_id, ids)):
            raise ValidationError(f"These are not ids of deliveries, or more than {MAX_IDS}.")
        return [int(pk) for pk in ids]

    @property
    def deliveries(self) -> DeliveryQuerySet:
        return Delivery.objects.visible_to(self.user).filter(pk__in=self.cleaned_data["ids"])

    @property
    def subjects(self) -> list[Any]:
        """Return the objects whose history in the admin records the sending."""
        return list(self.deliveries.defer("body"))


class RangeForm(TargetOverrideForm):
    """Send the deliveries of one instance and a range of time again."""

    instance = forms.ModelChoiceField(Instance.objects.all(), widget=InstanceSelect)
    since = MomentField(help_text="Deliveries created at or after this time, in UTC. Empty: from the first one.")
    until = MomentField(help_text="Deliveries created before this time, in UTC. Empty: until now.")
    state = forms.MultipleChoiceField(
        choices=State.choices,
        initial=[State.DEAD],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=(
            "Those that were sent to the same target again already are left out. Pending ones are sent now instead of "
            "later."
        ),
    )
    endpoint = forms.IntegerField(
        required=False,
        min_value=-(2**63),
        max_value=2**63 - 1,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="The number in the URL of its page. Empty: all endpoints of the instance.",
    )

    def __init__(self, user: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(user, *args, **kwargs)
        field: Any = self.fields["instance"]
        field.queryset = visible_instances(user)

    @property
    def deliveries(self) -> DeliveryQuerySet:
        limits = {name: self.cleaned_data[name] for name in ("since", "until", "state", "endpoint")}
        url = self.cleaned_data.get("url") or ""
        return in_range(Delivery.objects.visible_to(self.user), self.cleaned_data["instance"].pk, **limits, url=url)

    @property
    def subjects(self) -> list[Any]:
        """Return the objects whose history in the admin records the sending."""
        return [self.cleaned_data["instance"]]
