from __future__ import annotations

from typing import Any

from django.db import models

from instances.fields import JsonField
from instances.models.instance import Instance


class Template(models.Model):
    """A template that an instance has created at Meta. Meta has them all, those of other programs too."""

    instance = models.ForeignKey(Instance, models.CASCADE, related_name="templates")
    #: Meta's id of a name in one language.
    template_id = models.CharField(max_length=255)
    name = models.CharField(max_length=512)
    #: Meta's answer to the creation: id, status, category.
    state = JsonField(default=dict)
    webhook_url = models.TextField("webhook URL", null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("instance", "template_id"), name="template_is_stored_once"),)

    def __str__(self) -> str:
        return self.name

    @classmethod
    def store(cls, instance: Instance, name: str, state: dict[str, Any], webhook_url: str | None) -> Template:
        """Store a template that was created. Raises Instance.DoesNotExist if the instance was deleted meanwhile."""
        Instance.objects.select_for_update().get(pk=instance.pk)
        values = {"name": name, "state": state, "webhook_url": webhook_url}
        template, _ = cls.objects.update_or_create(instance=instance, template_id=str(state["id"]), defaults=values)
        return template

    @classmethod
    def record_edit(cls, instance: Instance, template_id: str, category: str | None) -> None:
        """Store what an edit has changed, if this instance has created the template."""
        template = cls.objects.select_for_update().filter(instance=instance, template_id=template_id).first()
        if template is not None:
            template.state |= {"category": category} if category else {}
            template.save(update_fields=["state", "updated_at"])

    @classmethod
    def forget(cls, instance: Instance, name: str, template_id: str | None) -> None:
        """Delete the rows of templates that were deleted at Meta: all of a name, or the one with this id."""
        found = cls.objects.filter(instance=instance)
        (found.filter(template_id=template_id) if template_id else found.filter(name=name)).delete()
