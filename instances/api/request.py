"""The request of a view of one instance, and the row lock on that instance."""

from __future__ import annotations

from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from instances.access.access import Access
from instances.errors import NotFound
from instances.models import Instance


class InstanceRequest(Request):
    """A request that the permission `MayUseInstance` has granted."""

    instance: Instance
    auth: Access


def lock_instance(request: InstanceRequest) -> Instance:
    """Lock the row of the instance in the path until the transaction ends, and return it as it is then.

    Raises NotFound if it was deleted, AuthenticationFailed if the key lost its access meanwhile.
    """
    instance = Instance.objects.select_for_update().filter(pk=request.instance.pk).first()
    if instance is None:
        raise NotFound(f'The "{request.instance.name}" instance does not exist')
    if not request.auth.opens(instance):
        raise AuthenticationFailed  # its token was rotated while this request waited for the lock
    return instance
