"""Routes of an instance's connection to WhatsApp: its state, connect, restart, log out, presence."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from instances import errors
from instances.access.rights import MANAGE, READ, SEND
from instances.api.examples import example_response
from instances.api.ignored import note_ignored
from instances.api.message_fields import OneOf
from instances.api.phone_bodies import PRESENCES
from instances.api.refusals import Refusal, refusal_view
from instances.api.request import InstanceRequest, lock_instance
from instances.api.responses import ConnectionStateAnswer, Done, Error, done
from instances.api.serializers import RequestBody
from instances.api.views import ChannelView
from instances.errors import not_connected
from instances.models import ConnectionState, Instance

_OPEN = example_response({"instance": {"instanceName": "loja", "state": "open"}})
_CLOSED = example_response(errors.body(400, ['The "loja" instance is not connected']), 400, "closed")


class ConnectionStateView(APIView):
    scope = READ

    @extend_schema(responses={200: ConnectionStateAnswer}, examples=[_OPEN])
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Return the connection state: open, connecting or close."""
        return Response(state_of(request.instance))


def state_of(instance: Instance) -> ConnectionStateAnswer:
    return {"instance": {"instanceName": instance.name, "state": instance.connection_state}}


class ConnectInstance(ChannelView):
    scope = MANAGE

    @extend_schema(
        parameters=[OpenApiParameter("number")],
        responses={200: ConnectionStateAnswer, 400: Error},
        examples=[_OPEN, _CLOSED],
    )
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Open the connection of an instance that was logged out, and return its state.

        There is no QR code and no pairing code: this server has no engine for WhatsApp Web, whose closed instances
        answer 400. The state that an engine of the Evolution channel has reported stays as it is.
        """
        note_ignored(request.query_params)
        return Response(state_of(connect(request.instance, lambda: lock_instance(request))))


def connect(instance: Instance, lock: Callable[[], Instance]) -> Instance:
    """Open the connection of an instance that was logged out; returns the instance as it is then.

    `lock` returns the instance with its row locked; it is called in a transaction. The state that an engine has
    reported stays as it is. Raises ApiError for an instance that only an engine for WhatsApp Web could connect.
    """
    if instance.connection_state != ConnectionState.OPEN:
        if instance.provider.initial_state != ConnectionState.OPEN:
            raise not_connected(instance.name)
        with transaction.atomic():
            instance = lock()
            if instance.logged_out_at or not instance.provider.reports_state:
                instance.reopen()
    return instance


class RestartInstance(ChannelView):
    scope = MANAGE

    @extend_schema(request=None, responses={200: ConnectionStateAnswer, 400: Error}, examples=[_OPEN, _CLOSED])
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Return the state of an open connection; nothing has to be restarted. Closed ones answer 400."""
        check_restart(request.instance)
        return Response(state_of(request.instance))

    @extend_schema(request=None, responses={200: ConnectionStateAnswer, 400: Error}, examples=[_OPEN, _CLOSED])
    def put(self, request: InstanceRequest, name: str) -> Response:
        """Do the same as POST, as clients of Evolution API 1 expect."""
        return self.post(request, name)


def check_restart(instance: Instance) -> None:
    """Raise ApiError for an instance that is closed, or that only an engine for WhatsApp Web could restart."""
    needs_engine = instance.provider.initial_state != ConnectionState.OPEN
    if needs_engine or instance.connection_state == ConnectionState.CLOSE:
        raise not_connected(instance.name)


class LogoutInstance(APIView):
    scope = MANAGE

    @extend_schema(
        responses={200: Done},
        examples=[
            example_response(done("Instance logged out")),
            example_response(done("Instance was already disconnected"), name="again"),
        ],
    )
    def delete(self, request: InstanceRequest, name: str) -> Response:
        """Log the instance out: it sends nothing until it is connected again.

        What its provider or engine reports is still recorded and delivered.
        """
        with transaction.atomic():
            was_open = lock_instance(request).log_out()
        return Response(done("Instance logged out" if was_open else "Instance was already disconnected"))


class InstancePresenceBody(RequestBody):
    presence = OneOf(PRESENCES)


SetPresence = refusal_view(
    Refusal(
        *("SetPresence", "POST", "instance/setPresence", SEND),
        *("Set the presence of the instance in all chats.", InstancePresenceBody, {"presence": "available"}),
    )
)
