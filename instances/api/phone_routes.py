"""Routes of chats, labels, calls and Baileys that only WhatsApp Web can serve."""

from __future__ import annotations

import secrets
from typing import Any, TypedDict

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from instances.access.rights import MANAGE, READ, SEND
from instances.api import phone_bodies as bodies
from instances.api.refusals import Refusal, refusal_view
from instances.api.request import InstanceRequest

KEY: dict[str, Any] = {"id": "3EB0C767D82B0A3BCD42", "fromMe": False, "remoteJid": "5511988887777@s.whatsapp.net"}
NUMBER = "5511988887777"
PRIVACY = {
    **{"readreceipts": "all", "profile": "contacts", "status": "contacts", "online": "all"},
    **{"last": "contacts", "groupadd": "none"},
}


def _baileys(name: str, scope: str, does: str, example: dict[str, Any]) -> Refusal:
    return Refusal(f"Baileys{name[0].upper()}{name[1:]}", "POST", f"baileys/{name}", scope, does, example=example)


CHATS = (
    Refusal(
        *("WhatsappNumbers", "POST", "chat/whatsappNumbers", READ),
        *("Find out which numbers are on WhatsApp.", bodies.WhatsappNumbersBody, {"numbers": [NUMBER]}),
    ),
    Refusal(
        *("MarkMessageAsPlayed", "POST", "chat/markMessageAsPlayed", SEND),
        *("Mark voice messages as played.", bodies.PlayedMessagesBody, {"playedMessages": [KEY]}),
    ),
    Refusal(
        *("ArchiveChat", "POST", "chat/archiveChat", SEND),
        *("Archive a chat, or take it out of the archive.", bodies.ArchiveChatBody),
        {"archive": True, "chat": KEY["remoteJid"], "lastMessage": {"key": KEY}},
    ),
    Refusal(
        *("MarkChatUnread", "POST", "chat/markChatUnread", SEND),
        *("Mark a chat as unread.", bodies.MarkChatUnreadBody, {"lastMessage": {"key": KEY}}),
    ),
    Refusal(
        *("DeleteMessageForEveryone", "DELETE", "chat/deleteMessageForEveryone", SEND),
        "Take back a message, which the body names by the members `id`, `fromMe` and `remoteJid`.",
        *(bodies.DeleteMessageBody, KEY),
    ),
    Refusal(
        *("UpdateMessage", "POST", "chat/updateMessage", SEND),
        *(
            "Edit a text that was sent.",
            bodies.UpdateMessageBody,
            {"number": NUMBER, "text": "Hello again", "key": KEY},
        ),
    ),
    Refusal(
        *("FetchProfile", "POST", "chat/fetchProfile", READ),
        *("Find a person's profile.", bodies.OptionalNumberBody, {"number": NUMBER}),
    ),
    Refusal(
        *("UpdateProfileName", "POST", "chat/updateProfileName", MANAGE),
        *("Change the instance's name on WhatsApp.", bodies.ProfileNameBody, {"name": "Loja"}),
    ),
    Refusal(
        *("UpdateProfilePicture", "POST", "chat/updateProfilePicture", MANAGE),
        *("Change the instance's picture.", bodies.ProfilePictureBody, {"picture": "https://example.com/loja.png"}),
    ),
    Refusal(
        *("RemoveProfilePicture", "DELETE", "chat/removeProfilePicture", MANAGE),
        "Remove the instance's picture.",
    ),
    Refusal(
        *("FetchPrivacySettings", "GET", "chat/fetchPrivacySettings", READ),
        "Find the instance's privacy settings.",
    ),
    Refusal(
        *("UpdatePrivacySettings", "POST", "chat/updatePrivacySettings", MANAGE),
        *("Change the instance's privacy settings.", bodies.PrivacyBody, PRIVACY),
    ),
)

LABELS_AND_CALLS = (
    Refusal("FindLabels", "GET", "label/findLabels", READ, "Find the labels of WhatsApp Business."),
    Refusal(
        *("HandleLabel", "POST", "label/handleLabel", MANAGE),
        *("Put a label on a chat, or take it off.", bodies.HandleLabelBody),
        {"number": NUMBER, "labelId": "1", "action": "add"},
    ),
    Refusal(
        *("OfferCall", "POST", "call/offer", SEND),
        *("Call a number. Evolution API claims to, and does not.", bodies.OfferCallBody),
        {"number": NUMBER, "isVideo": False, "callDuration": 5},
    ),
)

BAILEYS = (
    _baileys("onWhatsapp", READ, "Find out whether a JID is on WhatsApp.", {"jid": KEY["remoteJid"]}),
    _baileys("profilePictureUrl", READ, "Find the URL of a picture.", {"jid": KEY["remoteJid"], "type": "preview"}),
    _baileys("assertSessions", MANAGE, "Make sessions with devices.", {"jids": [KEY["remoteJid"]]}),
    _baileys(
        *("createParticipantNodes", MANAGE, "Encrypt a message for devices."),
        {"jids": [KEY["remoteJid"]], "message": {"conversation": "Hello"}, "extraAttrs": {}},
    ),
    _baileys(
        *("getUSyncDevices", MANAGE, "Find the devices of people."),
        {"jids": [KEY["remoteJid"]], "useCache": True, "ignoreZeroDevices": False},
    ),
    _baileys("generateMessageTag", MANAGE, "Make the tag of a stanza.", {}),
    _baileys("sendNode", MANAGE, "Send a stanza.", {"stanza": {"tag": "iq", "attrs": {}}}),
    _baileys(
        *("signalRepositoryDecryptMessage", MANAGE, "Decrypt a message."),
        {"jid": KEY["remoteJid"], "type": "msg", "ciphertext": "AA=="},
    ),
    _baileys("getAuthState", MANAGE, "Hand out the session.", {}),
)


class NewMessageId(TypedDict):
    id: str


class GenerateMessageId(APIView):
    """The one route of Baileys that needs no session."""

    scope = READ

    @extend_schema(
        operation_id="BaileysGenerateMessageID",
        responses={200: NewMessageId},
        examples=[OpenApiExample("id", {"id": "3EB0A1B2C3D4E5F6A7B8C9"}, response_only=True, status_codes=["200"])],
    )
    def get(self, request: InstanceRequest, name: str) -> Response:
        """Make an id for a message, as WhatsApp Web does."""
        return Response({"id": f"3EB0{secrets.token_hex(9).upper()}"})


#: The views by the path before the instance's name.
VIEWS: dict[str, type[APIView]] = {
    **{refusal.path: refusal_view(refusal) for refusal in (*CHATS, *LABELS_AND_CALLS, *BAILEYS)},
    "baileys/generateMessageID": GenerateMessageId,
}
