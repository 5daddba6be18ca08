"""The 192 routes of Evolution API 2.4, with this server's answers: tests call each of them."""

from __future__ import annotations

from instances.evolution_routes.chatbots import CHATBOTS
from instances.evolution_routes.route import (
    BEYOND,
    BY_PHONE,
    EMPTY,
    EVERYWHERE,
    NO_ENGINE,
    NO_MEDIA,
    REFUSED,
    SWITCHED_OFF,
    WORKS,
    Family,
    Route,
    routes,
)

#: Answers of routes that a phone and the Cloud API can serve: where Evolution API does so, and where it does not.
BY_PHONE_OR_GRAPH = (NO_ENGINE, WORKS, REFUSED)
BY_GRAPH_TOO = (NO_ENGINE, BEYOND, REFUSED)
#: Answers of routes that the Cloud API alone can serve.
BY_GRAPH = (REFUSED, WORKS, REFUSED)
#: Answers of messages that all channels can send.
BY_ALL_CHANNELS = (NO_ENGINE, WORKS, WORKS)

#: Answers of a transport that is switched off unless a variable says otherwise.
RABBITMQ_OFF = (SWITCHED_OFF, SWITCHED_OFF, SWITCHED_OFF)
NO_BROKER = (EMPTY, EMPTY, EMPTY)

SERVER = Family(
    "Server",
    (
        Route("GET", "/", 200, EVERYWHERE),
        Route("POST", "/verify-creds", 200, EVERYWHERE),
        Route("GET", "/assets/{file}", 200, EVERYWHERE, "Where `EVOLUTION_MANAGER_DIR` has a copy of the dashboard."),
        Route("GET", "/metrics", 200, EVERYWHERE, "With `PROMETHEUS_METRICS=true`."),
        Route("GET", "/license/status", 200, EVERYWHERE, "There is no licence, and no licence server is asked."),
        Route("GET", "/license/register", 200, EVERYWHERE),
        Route("GET", "/license/activate", 200, EVERYWHERE),
    ),
    "They do not depend on an instance.",
)

INSTANCES = Family(
    "Instances",
    (
        Route(
            *("POST", "/instance/create", 201, EVERYWHERE),
            "Members of Chatwoot and of brokers that are not here are ignored, and named in `X-Ignored-Members`.",
        ),
        Route("GET", "/instance/fetchInstances", 200, EVERYWHERE),
        *routes(
            *("GET", "instance", "connect", 200, BY_ALL_CHANNELS),
            note="Opens an instance that was logged out; there are no QR and pairing codes.",
        ),
        *routes("GET", "instance", "connectionState"),
        *routes(
            *("POST", "instance", "restart", 200, BY_ALL_CHANNELS),
            note="The state of an open instance, 400 for a closed one. `PUT` does the same, as in version 1.",
        ),
        *routes("POST", "instance", "setPresence", 201, BY_PHONE),
        *routes(
            *("DELETE", "instance", "logout"),
            note="It sends nothing until it is connected again; what is reported of it is recorded and delivered.",
        ),
        *routes("DELETE", "instance", "delete", note="Logs it out first."),
        *routes(
            "POST", "settings", "set", 201, note="Stored for an engine of yours: this server acts on none of them."
        ),
        *routes("GET", "settings", "find"),
        *routes("POST", "proxy", "set", 201, note="Stored for an engine of yours: nothing is connected through it."),
        *routes("GET", "proxy", "find"),
    ),
)

EVENTS = Family(
    "Events",
    tuple(
        route
        for transport, set_answers, find_answers in (
            ("webhook", EVERYWHERE, EVERYWHERE),
            ("websocket", EVERYWHERE, EVERYWHERE),
            ("rabbitmq", RABBITMQ_OFF, EVERYWHERE),
            *((broker, NO_BROKER, NO_BROKER) for broker in ("nats", "sqs", "kafka", "pusher")),
        )
        for route in (
            *routes("POST", transport, "set", 201, set_answers),
            *routes("GET", transport, "find", 200, find_answers),
        )
    ),
    "Events go to sockets, event streams, webhooks and RabbitMQ. There is no NATS, SQS, Kafka or Pusher here: their "
    "routes check the request, store nothing and answer with an empty body, as Evolution API does where they are off.",
)

MESSAGES = Family(
    "Messages",
    (
        *routes("POST", "message", "sendText", 201, BY_ALL_CHANNELS),
        *routes(
            *("POST", "message", "sendMedia sendWhatsAppAudio", 201, BY_ALL_CHANNELS),
            note="Cloud API: media by URL. What is to be uploaded (base64, a file) is answered 400 `… not yet`.",
        ),
        *routes("POST", "message", "sendPtv", 201, BY_GRAPH_TOO, "Cloud API: as a video, by URL."),
        *routes("POST", "message", "sendSticker", 201, BY_GRAPH_TOO, "Cloud API: by URL."),
        *routes("POST", "message", "sendStatus sendPoll", 201, BY_PHONE),
        *routes("POST", "message", "sendLocation sendContact sendReaction sendList", 201, BY_PHONE_OR_GRAPH),
        *routes("POST", "message", "sendButtons", 201, BY_ALL_CHANNELS),
        *routes("POST", "message", "sendCarousel", 201, (NO_ENGINE, REFUSED, BEYOND)),
        *routes("POST", "message", "sendTemplate", 201, BY_GRAPH),
    ),
    "On the Evolution channel, an engine of yours sends the messages that it receives as `send.message`.",
)

CHATS = Family(
    "Chats",
    (
        *routes("POST", "chat", "whatsappNumbers", answers=BY_PHONE),
        *routes("POST", "chat", "markMessageAsRead", 201, BY_GRAPH_TOO),
        *routes("POST", "chat", "markMessageAsPlayed archiveChat markChatUnread", 201, BY_PHONE),
        *routes("DELETE", "chat", "deleteMessageForEveryone", 201, BY_PHONE),
        *routes("POST", "chat", "fetchProfilePictureUrl"),
        *routes("POST", "chat", "getBase64FromMediaMessage", 201, (NO_ENGINE, NO_MEDIA, REFUSED)),
        *routes("POST", "chat", "updateMessage", answers=BY_PHONE),
        *routes(
            *("POST", "chat", "sendPresence", 201, BY_GRAPH_TOO),
            note="Cloud API: `composing` and `recording` alone, for a chat with a stored message, which Meta marks as "
            "read thereby; answered at once, without waiting for `delay`.",
        ),
        *routes(
            *("POST", "chat", "updateBlockStatus", 201, BY_GRAPH_TOO),
            note="Cloud API: Meta blocks people who wrote within 24 hours alone.",
        ),
        *routes("POST", "chat", "findContacts findMessages findStatusMessage"),
        *routes("POST", "chat", "findChats", note="Without `take`, the newest 1,000."),
        *routes("GET", "chat", "findChatByRemoteJid"),
        *routes(
            *("POST", "chat", "fetchBusinessProfile"),
            answers=BY_GRAPH_TOO,
            note="Cloud API: the instance's own profile alone.",
        ),
        *routes("POST", "chat", "fetchProfile updateProfileName", answers=BY_PHONE),
        *routes("POST", "chat", "updateProfileStatus", answers=BY_GRAPH_TOO),
        *routes("POST", "chat", "updateProfilePicture", answers=BY_PHONE),
        *routes("DELETE", "chat", "removeProfilePicture", answers=BY_PHONE),
        *routes("GET", "chat", "fetchPrivacySettings", answers=BY_PHONE),
        *routes("POST", "chat", "updatePrivacySettings", 201, BY_PHONE),
        *routes("POST", "chat", "getPollVote", answers=BY_PHONE),
        *routes("POST", "chat", "findChannels"),
    ),
    "What is stored is found for all kinds of instances.",
)

GROUPS = Family(
    "Groups",
    (
        *routes(
            *("POST", "group"),
            "create updateGroupSubject updateGroupPicture updateGroupDescription revokeInviteCode updateParticipant "
            "updateSetting updateMemberAddMode toggleEphemeral",
            201,
            BY_PHONE,
        ),
        *routes("POST", "group", "sendInvite", answers=BY_PHONE),
        *routes(
            *("GET", "group", "findGroupInfos fetchAllGroups participants inviteCode inviteInfo acceptInviteCode"),
            answers=BY_PHONE,
        ),
        *routes("DELETE", "group", "leaveGroup", answers=BY_PHONE),
    ),
)

BUSINESS = Family(
    "Labels, calls, business, templates, media",
    (
        *routes("GET", "label", "findLabels", answers=BY_PHONE),
        *routes("POST", "label", "handleLabel", answers=BY_PHONE),
        *routes(
            *("POST", "call", "offer", 201, (REFUSED, REFUSED, REFUSED)),
            note="Evolution API claims a call on WhatsApp Web, and makes none.",
        ),
        *routes("POST", "business", "getCatalog getCollections", answers=BY_PHONE),
        *routes("POST", "template", "create", 201, BY_GRAPH, "`webhookUrl` is stored, and nothing is posted there."),
        *routes("POST", "template", "edit", answers=BY_GRAPH),
        *routes("DELETE", "template", "delete", answers=BY_GRAPH),
        *routes("GET", "template", "find", answers=BY_GRAPH, note="All pages, up to a bound in [limits](limits.md)."),
        *routes("POST", "s3", "getMedia", 201, (NO_MEDIA, NO_MEDIA, NO_MEDIA)),
        *routes("POST", "s3", "getMediaUrl", answers=(NO_MEDIA, NO_MEDIA, NO_MEDIA)),
    ),
)

INGRESS = Family(
    "What comes in",
    (
        Route("GET", "/webhook/meta", 200, EVERYWHERE),
        Route("POST", "/webhook/meta", 200, EVERYWHERE),
        Route("POST", "/webhook/evolution", 200, EVERYWHERE),
    ),
)

BAILEYS = Family(
    "Baileys",
    (
        *routes("GET", "baileys", "generateMessageID", answers=(WORKS, BEYOND, BEYOND)),
        *routes(
            *("POST", "baileys"),
            "onWhatsapp profilePictureUrl assertSessions createParticipantNodes getUSyncDevices generateMessageTag "
            "sendNode signalRepositoryDecryptMessage getAuthState",
            answers=BY_PHONE,
        ),
    ),
    "They hand out what a session of WhatsApp Web consists of.",
)

FAMILIES = (SERVER, INSTANCES, EVENTS, MESSAGES, CHATS, GROUPS, BUSINESS, INGRESS, BAILEYS, CHATBOTS)

ROUTES = tuple(route for family in FAMILIES for route in family.routes)
