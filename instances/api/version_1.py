"""The bodies that Evolution API 1 had for messages, as those of today."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from rest_framework import serializers

from instances.api.ignored import note_ignored


def flat_body(
    data: Mapping[str, Any], wrapper: str, old_names: Mapping[str, str], fields: Container[str]
) -> dict[str, Any]:
    """Return a body whose members are not in an object of the kind, named `wrapper`, and not in `options`.

    A member that is sent in both places has the value of today's.
    """
    flat = dict(data)
    if wrapper and wrapper not in fields and wrapper in flat:
        flat = _members_of(flat.pop(wrapper), wrapper) | flat
    for old, name in old_names.items():
        if old in flat:
            flat = {name: flat.pop(old)} | flat
    if "options" in flat and "options" not in fields:
        options = _members_of(flat.pop("options"), "options")
        if "mentions" in options:
            mentions = _members_of(options.pop("mentions"), "options.mentions")
            every_one = mentions.pop("everyOne", mentions.pop("mentionsEveryOne", None))
            options |= {"mentionsEveryOne": every_one, "mentioned": mentions.pop("mentioned", None) or None}
        note_ignored(f"options.{name}" for name in options if name not in fields)
        flat = {name: value for name, value in options.items() if name in fields and value is not None} | flat
    return flat


def _members_of(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise serializers.ValidationError({name: ["is not of a type(s) object"]}, code="type")
    return dict(value)
