"""The request that a view of one instance gets, and the row lock on that instance."""

from __future__ import annotations

from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from instances.access.access import Access
from instances.errors import NotFound
from instances.models import Instance


class InstanceRequest(Request):
    """A request that the permission `MayUseInstance` let through."""

    instance: Instance
    auth: Access


def lock_instance(request: InstanceRequest) -> Instance:
    """The path's instance until the transaction ends: whoever else would use it waits, and finds it as we leave it."""
    instance = Instance.objects.select_for_update().filter(pk=request.instance.pk).first()
    if instance is None:
        raise NotFound(f'The "{request.instance.name}" instance does not exist')
    if not request.auth.opens(instance):
        raise AuthenticationFailed  # its token was rotated while we waited
    return instance
