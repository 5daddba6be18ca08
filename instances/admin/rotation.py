"""The form that asks how long the old signing secret of an endpoint signs beside a new one."""

from __future__ import annotations

from django import forms
from unfold.widgets import UnfoldAdminSelectWidget

HOUR, DAY = 3600, 24 * 3600

#: Seconds, with their words.
OVERLAPS = {0: "Not at all: end it now", HOUR: "For an hour", DAY: "For a day", 7 * DAY: "For seven days"}


class RotationForm(forms.Form):
    """The seconds for which the old secret goes on signing; a day without a choice."""

    overlap = forms.TypedChoiceField(
        choices=OVERLAPS,
        coerce=int,
        initial=DAY,
        empty_value=DAY,  # type: ignore[arg-type]
        required=False,
        label="The old secret signs as well",
        widget=UnfoldAdminSelectWidget,
        help_text="Until then each delivery has two signatures, and the receiver may check it with either secret.",
    )
