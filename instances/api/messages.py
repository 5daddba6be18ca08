"""Routes that send messages: one for each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.response import Response

from instances.access.rights import SEND
from instances.api import file_bodies
from instances.api import message_bodies as bodies
from instances.api.json import FormOrMisnamedJson, JsonParser
from instances.api.message_examples import ANSWER, EXAMPLES
from instances.api.multipart import MultipartParser
from instances.api.request import InstanceRequest
from instances.api.responses import Error
from instances.api.send_body import SendBody
from instances.api.serializers import validate
from instances.api.views import ChannelView
from instances.outbound_message import MessageKind
from instances.sending import send_message


class SendView(ChannelView):
    """A route that sends messages of one kind."""

    scope = SEND
    kind: ClassVar[MessageKind]
    body: ClassVar[type[SendBody]]

    def send(self, request: InstanceRequest) -> Response:
        validated = validate(self.body(data=request.data))
        return Response(send_message(request.instance, self.kind, validated), status=201)


class SendFileView(SendView):
    """A route that takes a file in a multipart form, too, as its field `file`."""

    parser_classes = [JsonParser, FormOrMisnamedJson, MultipartParser]


def _described(kind: MessageKind, body: type[SendBody], takes_file: bool = False) -> Callable[[Any], Any]:
    """Return the decorator that describes the `post` of a kind for the OpenAPI document."""
    file = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
    form = {"allOf": [{"$ref": f"#/components/schemas/{body.__name__}Request"}, file]}
    return extend_schema(
        request={"application/json": body, "multipart/form-data": form} if takes_file else body,
        responses={201: dict[str, Any], 409: Error, 502: Error, 504: Error},
        examples=[
            OpenApiExample(kind.value, value=EXAMPLES[kind], request_only=True),
            OpenApiExample("Sent", value=ANSWER, response_only=True, status_codes=["201"]),
        ],
    )


class SendText(SendView):
    kind, body = MessageKind.TEXT, bodies.TextBody

    @_described(kind, body)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send a text message and return it as Evolution API's message object.

        For all routes that send: an `id` or `messageId` of your own makes a repeat safe: it returns the first result,
        or 409 while that is under way. An error whose `response.outcome` is `unknown` (502, 504) says that WhatsApp may
        have the message and may not; then a repeat within two minutes returns the same error, unless it has
        `retryUnknown`, by which it is sent again. Where an engine of yours has to send the message, the header
        `X-Evoapi-Note` says so.
        """
        return self.send(request)


class SendMedia(SendFileView):
    kind, body = MessageKind.MEDIA, file_bodies.MediaBody

    @_described(kind, body, takes_file=True)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send an image, a document, a video or an audio file.

        `media` is a URL, base64 or a `data:` URL; a multipart form may have the file as `file` instead. A WhatsApp
        Business instance takes URLs alone, which Meta fetches.
        """
        return self.send(request)


class SendPtv(SendFileView):
    kind, body = MessageKind.ROUND_VIDEO, file_bodies.RoundVideoBody

    @_described(kind, body, takes_file=True)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send a round video. By a WhatsApp Business instance it goes out as a usual video."""
        return self.send(request)


class SendWhatsAppAudio(SendFileView):
    kind, body = MessageKind.VOICE, file_bodies.VoiceBody

    @_described(kind, body, takes_file=True)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send a voice message. The file is not converted: `encoding` has no effect."""
        return self.send(request)


class SendStatus(SendFileView):
    kind, body = MessageKind.STATUS, file_bodies.StatusBody

    @_described(kind, body, takes_file=True)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Publish a status for the contacts. No channel of this server can: a valid body is answered 400."""
        return self.send(request)


class SendSticker(SendFileView):
    kind, body = MessageKind.STICKER, file_bodies.StickerBody

    @_described(kind, body, takes_file=True)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send a sticker, by a WhatsApp Business instance: the URL of a WebP file, which is not converted."""
        return self.send(request)


class SendLocation(SendView):
    kind, body = MessageKind.LOCATION, bodies.LocationBody

    @_described(kind, body)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send a place."""
        return self.send(request)


class SendContact(SendView):
    kind, body = MessageKind.CONTACT, bodies.ContactBody

    @_described(kind, body)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send one or more contacts."""
        return self.send(request)


class SendReaction(SendView):
    kind, body = MessageKind.REACTION, bodies.ReactionBody

    @_described(kind, body)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """React to a message with an emoji, or with an empty text to take the reaction back."""
        return self.send(request)


class SendPoll(SendView):
    kind, body = MessageKind.POLL, bodies.PollBody

    @_described(kind, body)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send a poll. No channel of this server can: a valid body is answered 400."""
        return self.send(request)


class SendList(SendView):
    kind, body = MessageKind.LIST, bodies.ListBody

    @_described(kind, body)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send a list to choose from."""
        return self.send(request)


class SendButtons(SendView):
    kind, body = MessageKind.BUTTONS, bodies.ButtonsBody

    @_described(kind, body)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send a message with buttons. By a WhatsApp Business instance each of them replies, whatever its type."""
        return self.send(request)


class SendCarousel(SendView):
    kind, body = MessageKind.CAROUSEL, bodies.CarouselBody

    @_described(kind, body)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send cards with buttons, by an instance of the Evolution channel."""
        return self.send(request)


class SendTemplate(SendView):
    kind, body = MessageKind.TEMPLATE, bodies.TemplateBody

    @_described(kind, body)
    def post(self, request: InstanceRequest, name: str) -> Response:
        """Send a template that Meta has approved."""
        return self.send(request)


SEND_VIEWS: tuple[type[SendView], ...] = (
    SendText,
    SendMedia,
    SendPtv,
    SendWhatsAppAudio,
    SendStatus,
    SendSticker,
    SendLocation,
    SendContact,
    SendReaction,
    SendPoll,
    SendList,
    SendButtons,
    SendCarousel,
    SendTemplate,
)
