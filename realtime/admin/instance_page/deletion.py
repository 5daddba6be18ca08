"""Deletion of instances: it asks for the name, or for the number where several are selected."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from instances.admin import InstanceAdmin
from realtime.admin.instance_page.forms import is_name_of


class InstanceDeletion(InstanceAdmin):
    """The admin of instances whose deletion is confirmed by what is typed."""

    delete_confirmation_template = "admin/realtime/instance/delete_confirmation.html"
    delete_selected_confirmation_template = "admin/realtime/instance/delete_selected_confirmation.html"
    actions = ("delete_selected",)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Delete an instance whose name was typed; otherwise say so, and ask again."""
        if request.method == "POST" and self.has_delete_permission(request):
            instance: Any = self.get_object(request, object_id)
            if instance is not None and not is_name_of(instance, request.POST.get("name", "")):
                text = f"Nothing was deleted: type the name of the instance, {instance.name}."
                self.message_user(request, text, messages.ERROR)
                return HttpResponseRedirect(request.get_full_path())
        return super().delete_view(request, object_id, extra_context)

    @admin.action(description="Delete selected instances", permissions=["delete"])
    def delete_selected(self, request: HttpRequest, queryset: QuerySet) -> HttpResponse | None:
        """Delete the instances that are selected, if the name of the one or the number of them was typed."""
        if request.POST.get("post"):
            found = list(queryset[:2])
            typed = request.POST.get("name", "").strip()
            is_one = len(found) == 1
            if not (is_name_of(found[0], typed) if is_one else typed == str(queryset.count())):
                asked = f"name of the instance, {found[0].name}" if is_one else "number of the instances"
                self.message_user(request, f"Nothing was deleted: type the {asked}.", messages.ERROR)
                return None
        return delete_selected(self, request, queryset)
