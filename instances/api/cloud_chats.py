"""Routes of chats and of the profile that the Cloud API can serve, too."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypedDict, TypeVar

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.response import Response

from instances.access.rights import MANAGE, READ, SEND
from instances.api.graph import GraphView, ask
from instances.api.message_pages import NEWEST_FIRST
from instances.api.phone_bodies import (
    BlockStatusBody,
    ChatPresenceBody,
    OptionalNumberBody,
    ProfileStatusBody,
    ReadMessagesBody,
)
from instances.api.phone_routes import KEY, NUMBER
from instances.api.refusals import EXAMPLE
from instances.api.request import InstanceRequest
from instances.api.responses import Error
from instances.api.serializers import validate
from instances.api.views import unavailable
from instances.errors import ApiError, ListedError
from instances.models import Instance, Message, record_read
from instances.names import digits
from instances.providers import provider_of
from instances.providers.cloud_api_graph import GraphError

T = TypeVar("T")

#: Messages of a chat among which the last one that was received is looked for.
LOOKED_AT = 100
#: Presences that the Cloud API can show.
TYPING = ("composing", "recording")


class ReadAnswer(TypedDict):
    message: str
    read: str


class PresenceAnswer(TypedDict):
    presence: str


class BlockAnswer(TypedDict):
    block: str


class UpdateAnswer(TypedDict):
    update: str


class BusinessProfile(TypedDict):
    """The profile of a business; null where it has none."""

    isBusiness: bool
    wid: str | None
    about: str | None
    description: str | None
    website: list[str]
    email: str | None
    category: str | None
    business_hours: dict[str, Any]
    address: str | None
    profilePictureUrl: str | None


def _described(body: Any, status: int, answer: Any, valid: dict[str, Any], found: Any) -> Any:
    """Return the decorator that describes a route of this module in the OpenAPI document."""
    examples = [
        OpenApiExample("valid", valid, request_only=True),
        OpenApiExample("done", found, response_only=True, status_codes=[str(status)]),
        EXAMPLE,
    ]
    return extend_schema(request=body, responses={status: answer, 502: Error, 504: Error}, examples=examples)


def _asked(what_failed: str, request: Coroutine[Any, Any, T]) -> T:
    """Ask the Graph API. Raises ListedError with Evolution API's words for what failed, and the Graph API's."""
    try:
        return ask(request)
    except GraphError as error:
        raise ListedError([what_failed, error.message], error.status) from None


class MarkMessageAsRead(GraphView):
    scope = SEND

    @_described(
        *(ReadMessagesBody, 201, ReadAnswer, {"readMessages": [KEY]}),
        {"message": "Read messages", "read": "success"},
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Mark received messages as read.

        The Cloud API can; messages of the instance itself are left out. Other channels refuse it.
        """
        body = validate(ReadMessagesBody(data=request.data))
        graph = self.graph_of(request.instance)
        ids = [key["id"] for key in body["readMessages"] if not key["fromMe"]]
        if not ids:
            raise ListedError(["Read messages fail", "Only messages that were received can be marked as read"])
        _asked("Read messages fail", graph.mark_read(request.instance, ids))
        record_read(request.instance, ids)
        return Response({"message": "Read messages", "read": "success"}, status=201)


class SendPresence(GraphView):
    scope = SEND

    @_described(
        *(ChatPresenceBody, 201, PresenceAnswer, {"number": NUMBER, "presence": "composing", "delay": 1200}),
        {"presence": "composing"},
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Show in a chat that an answer is being typed.

        The Cloud API can, for `composing` and `recording`: it shows so as the answer to the last message of the chat,
        which it marks as read, for 25 seconds or until a message is sent. `delay` is not waited for. Other channels
        refuse it.
        """
        body = validate(ChatPresenceBody(data=request.data))
        instance = request.instance
        graph = self.graph_of(instance)
        if body["presence"] not in TYPING:
            words = str(unavailable(instance).detail)
            raise ListedError([words, f"The Cloud API shows {' and '.join(TYPING)} alone"])
        message_id = _last_received(instance, _address(instance, body["number"]))
        if message_id is None:
            raise ApiError("The Cloud API shows typing as the answer to a message, and none from this number is stored")
        try:
            ask(graph.mark_read(instance, [message_id], is_typing=True))
        except GraphError as error:
            raise ApiError(error.message, error.status) from None
        record_read(instance, [message_id])
        return Response({"presence": body["presence"]}, status=201)


class UpdateBlockStatus(GraphView):
    scope = MANAGE

    @_described(
        *(BlockStatusBody, 201, BlockAnswer, {"number": NUMBER, "status": "block"}),
        {"block": "success"},
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Block a person, or unblock them.

        The Cloud API can, for people who wrote within 24 hours. Other channels refuse it.
        """
        body = validate(BlockStatusBody(data=request.data))
        graph = self.graph_of(request.instance)
        user = _address(request.instance, body["number"]).partition("@")[0]
        is_blocked = body["status"] == "block"
        _asked("Error blocking user", graph.set_blocked(request.instance, user, is_blocked))
        return Response({"block": "success"}, status=201)


class FetchBusinessProfile(GraphView):
    scope = READ
    needs_connection = False

    @_described(
        *(OptionalNumberBody, 200, BusinessProfile, {}),
        {
            "isBusiness": True,
            "wid": None,
            "about": "Open from 9 to 5",
            "description": "A shop",
            "website": ["https://loja.example/"],
            "email": "ana@loja.example",
            "category": "RETAIL",
            "business_hours": {},
            "address": None,
            "profilePictureUrl": None,
        },
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Return the profile of a business.

        The Cloud API can, for the instance's own number: without `number`. Other channels refuse it.
        """
        body = validate(OptionalNumberBody(data=request.data))
        instance = request.instance
        graph = self.graph_of(instance)
        if "number" in body and digits(body["number"]) != instance.phone:
            raise unavailable(instance)
        profile = _asked("Error fetching the business profile", graph.business_profile(instance))
        return Response(_business_profile(instance, profile))


def _business_profile(instance: Instance, profile: dict[str, Any]) -> BusinessProfile:
    websites = profile.get("websites")
    return {
        "isBusiness": True,
        "wid": instance.owner_jid,
        "about": profile.get("about"),
        "description": profile.get("description"),
        "website": websites if isinstance(websites, list) else [],
        "email": profile.get("email"),
        "category": profile.get("vertical"),
        "business_hours": {},
        "address": profile.get("address"),
        "profilePictureUrl": profile.get("profile_picture_url"),
    }


class UpdateProfileStatus(GraphView):
    scope = MANAGE

    @_described(
        *(ProfileStatusBody, 200, UpdateAnswer, {"status": "Open from 9 to 5"}),
        {"update": "success"},
    )
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Change the text of the instance's profile. The Cloud API can; other channels refuse it."""
        body = validate(ProfileStatusBody(data=request.data))
        graph = self.graph_of(request.instance)
        if "status" not in body:
            raise ValidationError({"status": ErrorDetail("", "required")})
        _asked("Error updating profile status", graph.update_profile(request.instance, about=body["status"]))
        return Response({"update": "success"})


def _last_received(instance: Instance, address: str) -> str | None:
    """Return WhatsApp's id of the last message that was received in a chat, if it is among the newest there.

    The chat has this address, or has it as the other one of a person with two.
    """
    for column in ("remote_jid", "remote_jid_alt"):  # one index each
        newest = Message.objects.stored(instance).filter(**{column: address})
        rows = newest.order_by(*NEWEST_FIRST).values_list("wa_id", "from_me")[:LOOKED_AT]
        found = next((wa_id for wa_id, from_me in rows if not from_me), None)
        if found is not None:
            return found
    return None


def _address(instance: Instance, number: str) -> str:
    try:
        return provider_of(instance).address(number)
    except ValueError as error:
        raise ApiError(str(error)) from None


#: The views by the path before the instance's name.
VIEWS = {
    "chat/markMessageAsRead": MarkMessageAsRead,
    "chat/sendPresence": SendPresence,
    "chat/updateBlockStatus": UpdateBlockStatus,
    "chat/fetchBusinessProfile": FetchBusinessProfile,
    "chat/updateProfileStatus": UpdateProfileStatus,
}
