from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.db import models

from instances.bounds import EARLY_STATUSES
from instances.changes import StatusReport
from instances.fields import JsonField
from instances.models.instance import Instance


class EarlyStatus(models.Model):
    """A status report of a message that may be one whose send has no result yet: it waits for that.

    The instance is locked by whoever reads or writes its rows.
    """

    instance = models.ForeignKey(
        Instance,
        models.CASCADE,
        related_name="early_statuses",
        help_text="The instance whose number it was reported for.",
    )
    wa_id = models.CharField("WhatsApp id", max_length=255, help_text="The id of the message, not known here yet.")
    report = JsonField(help_text="The report as the provider parsed it.")
    created_at = models.DateTimeField(auto_now_add=True, help_text="The time when it was received.")

    class Meta:
        ordering = ("id",)
        verbose_name_plural = "early statuses"

    def __str__(self) -> str:
        return f"{self.report['status']} {self.wa_id}"

    @classmethod
    def keep(cls, instance: Instance, report: StatusReport) -> bool:
        """Store a report, once; return False if the instance has EARLY_STATUSES already."""
        kept = cls.objects.filter(instance=instance)
        values = asdict(report)
        if any(early.report == values for early in kept.filter(wa_id=report.id)):
            return True
        if kept.count() >= EARLY_STATUSES:
            return False
        cls.objects.create(instance=instance, wa_id=report.id, report=values)
        return True

    def parsed(self) -> StatusReport:
        """Return the report."""
        values: dict[str, Any] = self.report
        return StatusReport(**values)
