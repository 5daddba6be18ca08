"""Checkboxes of event types, by group, each with a line on what the event means."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.forms.renderers import BaseRenderer
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from instances.events import GROUP_UPDATE, EventType, grouped_names


def event_choices() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the choices of a field of event types, by group."""
    return [(str(group.label), [(name, name) for name in names]) for group, names in grouped_names().items()]


def describe(name: str) -> str:
    """Return a line on what an event means, by the name that subscriptions have for it."""
    if name == GROUP_UPDATE:
        return "The same as GROUPS_UPDATE, in Evolution API's spelling."
    event_type = EventType.named(name)
    return str(event_type.label) if event_type else ""


class EventCheckboxes(UnfoldAdminCheckboxSelectMultipleWidget):
    """A fieldset of checkboxes for each group, with buttons that check all or none of it."""

    use_fieldset = True

    def __init__(self, attrs: dict[str, Any] | None = None, *, is_readonly: bool = False, **kwargs: Any) -> None:
        """`is_readonly` shows what is checked, to be looked at alone."""
        super().__init__(attrs, **kwargs)
        self.is_readonly = is_readonly

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        context = super().get_context(name, value, attrs)
        widget = context["widget"]
        widget["is_readonly"] = self.is_readonly
        widget["groups"] = [
            {"label": group, "options": options, "checked": sum(bool(option["selected"]) for option in options)}
            for group, options, _ in widget["optgroups"]
        ]
        return context

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **kwargs)
        option["description"] = describe(str(value))
        if "id" in option["attrs"]:
            option["attrs"]["aria-describedby"] = f"{option['attrs']['id']}_text"
        if self.is_readonly:
            option["attrs"]["disabled"] = True
            option["attrs"].pop(
                "class", None
            )  # unfold's classes, longer than all the rest, hundreds of times on a page
        return option

    def _render(self, template_name: str, context: dict[str, Any], renderer: BaseRenderer | None = None) -> SafeString:
        # forms look for templates in applications alone
        return render_to_string("admin/instances/event_checkboxes.html", context)


def readonly_checkboxes(key: str, names: Collection[str]) -> SafeString:
    """Return the checkboxes of a subscription to be looked at; without names all are checked. `key` begins the ids."""
    widget = EventCheckboxes(is_readonly=True, choices=event_choices())
    checked = list(names) or [name for names in grouped_names().values() for name in names]
    return widget.render(key, checked, {"id": key})
