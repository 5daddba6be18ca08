"""The JSON Schemas of the data of Evolution API's event types, and the parts that they share."""

from __future__ import annotations

from instances.events.json_schema import Schema, array, either, flag, nothing, number, record, text, whole

# Parts

INSTANCE_ID = text("The id of the instance, a UUID.", format="uuid")
INSTANCE_NAME = text("The name of the instance.")
JID = text(
    "The address of the chat: `<number>@s.whatsapp.net` for a person, `<id>@lid` where only a user id is known,"
    " `<id>@g.us` for a group; on the Evolution channel as its engine writes it."
)
PHONE_JID = text("The address by the phone number, where it is known: `<number>@s.whatsapp.net`.")

KEY = record(
    "The key of a message: it names the message in all events and requests.",
    {
        "remoteJid": JID,
        "fromMe": flag("True if the instance sent it, by this API or by its phone."),
        "id": text("WhatsApp's id of the message, unique within the instance."),
    },
    {
        "participant": text("In a group, the address of the person who wrote it."),
        "remoteJidAlt": text("The other address of the chat, where both are known: an @lid or a phone number's."),
        "participantAlt": text("The other address of the participant, where both are known."),
        "addressingMode": text("The kind of address that `remoteJid` is: `pn` or `lid`."),
        "profilePicUrl": text("The URL of the sender's picture, where an engine has given it."),
    },
)

CONTEXT = record(
    "The message that this one answers or forwards.",
    {},
    {
        "stanzaId": text("The id of the message that is quoted."),
        "participant": text("The address of the person who wrote the quoted message."),
        "quotedMessage": record("The content of the quoted message.", {}),
        "mentionedJid": array(text("An address."), "The people who are mentioned."),
    },
)

_MEDIA = (
    "As its provider describes it. From Meta: `id` (to download by), `mime_type`, `sha256` and `caption`. From WhatsApp"
    " Web: `url`, `mimetype`, `mediaKey` and `caption`. Of a message that this API sends: `mimetype`, `fileName` and"
    " `caption`."
)
CONTENT = record(
    "The content, under the name of its kind; what WhatsApp adds has names of its own. Contents that an engine posts or"
    " publishes are passed on as they are.",
    {},
    {
        "conversation": text(
            "The text of a text message, or the title of the button that was pressed.", is_nullable=True
        ),
        "extendedTextMessage": record("A text with a preview or a quotation.", {}, {"text": text("The text.")}),
        "imageMessage": record(f"A picture. {_MEDIA}", {}),
        "videoMessage": record(f"A video. {_MEDIA}", {}),
        "audioMessage": record(f"A sound; with `ptt: true`, a voice message. {_MEDIA}", {}),
        "documentMessage": record(f"A file. {_MEDIA}", {}),
        "stickerMessage": record(f"A sticker. {_MEDIA}", {}),
        "locationMessage": record(
            "A place.",
            {},
            {
                "degreesLatitude": number("Its latitude.", is_nullable=True),
                "degreesLongitude": number("Its longitude.", is_nullable=True),
                "name": text("Its name."),
                "address": text("Its address."),
            },
        ),
        "contactMessage": record(
            "A contact card.", {}, {"displayName": text("The name shown."), "vcard": text("The card, a vCard 3.0.")}
        ),
        "contactsArrayMessage": record("Several contact cards, in `contacts`.", {}),
        "reactionMessage": record(
            "A reaction to the message of `key`; without `text`, it was taken back.",
            {},
            {"key": record("The key of the message; from Meta, its `id` alone.", {}), "text": text("The emoji.")},
        ),
        "interactiveMessage": record("Buttons, lists and forms, and what a person chose of them.", {}),
        "buttonMessage": record("A button of a template that was pressed.", {}),
        "contextInfo": CONTEXT,
        "mediaUrl": text("The URL of a file that this API was given to send.", is_nullable=True),
        "base64": text("The bytes of a file that this API was given to send, in base64."),
    },
)

_STATUS = (
    "`PENDING`, `SENT` or `SERVER_ACK`, `FAILED` or `ERROR`, `DELIVERED` or `DELIVERY_ACK`, `READ`, `PLAYED`,"
    " `DELETED`: the words of Meta and of WhatsApp Web"
)

MESSAGE_MEMBERS: dict[str, Schema] = {
    "key": KEY,
    "message": CONTENT,
    "messageType": text(
        "The kind of content, which names its member in `message`; `unknown` for kinds of Meta's alone."
    ),
    "messageTimestamp": whole("The time of the message in seconds since 1970, by WhatsApp's clock.", minimum=0),
    "source": text("The kind of device it was written on: `android`, `ios`, `web`, `desktop` or `unknown`."),
}
OPTIONAL_MESSAGE_MEMBERS: dict[str, Schema] = {
    "pushName": text("The name that the sender has given himself.", is_nullable=True),
    "status": text(f"How far it has come: {_STATUS}.", is_nullable=True),
    "contextInfo": CONTEXT,
    "type": text("Meta's name for the kind, where `messageType` is `unknown`."),
    "errors": array({}, "What Meta reports of a message that it could not pass on."),
    "contact": record("What Meta reports of the sender besides name and number.", {}),
}
MESSAGE = record(
    "A message. Members without a counterpart in Evolution API keep Meta's names.",
    MESSAGE_MEMBERS | {"instanceId": INSTANCE_ID},
    OPTIONAL_MESSAGE_MEMBERS,
)

EDIT = record(
    "A change of a message, as WhatsApp's protocol has it.",
    {
        "key": KEY,
        "type": text("The kind of change: `MESSAGE_EDIT`; engines pass on others, such as `REVOKE`."),
    },
    {
        "editedMessage": CONTENT,
        "timestampMs": {
            "description": "The time of the change in milliseconds since 1970.",
            "type": ["string", "integer"],
        },
    },
)

CONTACT = record(
    "A person or a group.",
    {"remoteJid": JID, "instanceId": INSTANCE_ID},
    {
        "pushName": text("The name.", is_nullable=True),
        "profilePicUrl": text("The URL of the picture.", is_nullable=True),
    },
)
CHAT = record(
    "A chat.",
    {"remoteJid": JID, "instanceId": INSTANCE_ID},
    {
        "name": text("The name.", is_nullable=True),
        "remoteLid": text("The address by the user id, where both are known.", is_nullable=True),
        "unreadMessages": whole("The number of messages that were not read.", minimum=0),
    },
)

MEMBER = record(
    "A member of a group.",
    {"id": text("The member's address.")},
    {
        "phoneNumber": PHONE_JID,
        "admin": text("`admin` or `superadmin`; null for others.", is_nullable=True),
    },
)
_GROUP_MEMBERS: dict[str, Schema] = {
    "subject": text("The name."),
    "owner": text("The address of the owner.", is_nullable=True),
    "desc": text("The description.", is_nullable=True),
    "size": whole("The number of members.", minimum=0),
    "creation": whole("The time of creation in seconds since 1970."),
    "announce": flag("True if administrators alone may write."),
    "restrict": flag("True if administrators alone may change the settings."),
    "participants": array(MEMBER, "The members."),
    "author": text("The address of the person who made the change."),
}
_GROUP_ID = text("The address of the group, `<id>@g.us`.")


def _one_or_many(schema: Schema, description: str) -> Schema:
    return either(array(schema, "Several."), schema, description=description)


# Data of the types, in the order of the catalogue

STARTUP = record("The start.", {"message": text("A sentence."), "mode": text("`server`.")})
IDENTITY = record("The instance.", {"instanceName": INSTANCE_NAME, "instanceId": INSTANCE_ID})
QRCODE = either(
    record(
        "A QR code.",
        {
            "qrcode": record(
                "The code.",
                {
                    "instance": INSTANCE_NAME,
                    "pairingCode": text("The code to type, where a number was given.", is_nullable=True),
                    "code": text("The text of the QR code."),
                    "base64": text("The picture of the QR code, as a data URL."),
                },
            )
        },
    ),
    record("The end of the attempts.", {"message": text("A sentence."), "statusCode": whole("A number, such as 500.")}),
)
CONNECTION = record(
    "The state of the connection.",
    {
        "instance": INSTANCE_NAME,
        "state": text("The state.", enum=["open", "connecting", "close", "refused"]),
        "statusReason": whole("200, or the cause of a closed connection: 401 after a log-out."),
    },
    {
        "wuid": text("The instance's own address."),
        "profileName": text("The instance's own name.", is_nullable=True),
        "profilePictureUrl": text("The URL of the instance's own picture.", is_nullable=True),
    },
)
CLOSED = record(
    "The end of the connection.",
    {
        "instance": INSTANCE_NAME,
        "status": text("`closed`.", const="closed"),
        "disconnectionAt": text("The time, in ISO 8601.", is_nullable=True, format="date-time"),
        "disconnectionReasonCode": whole("The cause: 401 for a log-out.", is_nullable=True),
        "disconnectionObject": text("The cause in detail, as JSON in a text.", is_nullable=True),
    },
)
HISTORY = array(
    either(
        record(
            "A message, as in messages.upsert.",
            MESSAGE_MEMBERS,
            OPTIONAL_MESSAGE_MEMBERS | {"instanceId": INSTANCE_ID},
        ),
        record(
            "A part of the history that Meta could not give, as Meta reports it.",
            {},
            {},
            **{"not": {"required": ["key"]}},
        ),
    ),
    "Messages of before the pairing; there may be none.",
)
STATUS = record(
    "A status of a message that the instance sent.",
    {
        "keyId": text("The id of the message."),
        "remoteJid": JID,
        "fromMe": flag("True: the message is the instance's own."),
        "status": text(f"The status: {_STATUS}. Others of Meta's come as they are, in capitals."),
        "instanceId": INSTANCE_ID,
    },
    {
        "participant": text("The address of the person whose device reports it; in a group, one event for each."),
        "messageId": text("The number of the message's row; absent where the message is not stored."),
        "messageTimestamp": whole("The time of the status in seconds since 1970.", minimum=0),
        "errors": array({}, "From Meta: why the message failed."),
        "pricing": {"description": "From Meta: what the message costs."},
        "conversation": {"description": "From Meta: the conversation that it is billed in."},
        "contact": record("From Meta: what it reports of the person besides name and number.", {}),
    },
)
STATUSES = _one_or_many(STATUS, "A status; engines may report several.")
DELETED = record(
    KEY["description"],
    {name: KEY["properties"][name] for name in KEY["required"]},
    {
        **{name: schema for name, schema in KEY["properties"].items() if name not in KEY["required"]},
        "status": text("`DELETED`, from engines of WhatsApp Web."),
    },
)
CONTACTS = _one_or_many(CONTACT, "One contact of a message, or those that an engine reports together.")
CONTACT_LIST = array(CONTACT, "The contacts.")
PRESENCE = record(
    "What somebody is doing in a chat.",
    {
        "id": JID,
        "presences": {
            "description": "The people by their addresses.",
            "type": "object",
            "additionalProperties": record(
                "A person.",
                {"lastKnownPresence": text("`composing`, `recording`, `paused`, `available` or `unavailable`.")},
                {"lastSeen": whole("The time of the last presence in seconds since 1970.")},
            ),
        },
    },
)
CHAT_LIST = array(CHAT, "The chats.")
CHATS = _one_or_many(CHAT, "One chat of a message, or those that an engine reports together.")
DELETED_CHATS = array(JID, "The addresses of the chats.")
GROUPS = array(record("A group.", {"id": _GROUP_ID, "subject": text("The name.")}, _GROUP_MEMBERS), "The groups.")
CHANGED_GROUPS = array(record("A group, with what has changed.", {"id": _GROUP_ID}, _GROUP_MEMBERS), "The groups.")
PARTICIPANTS = record(
    "A change of a group's members.",
    {
        "id": _GROUP_ID,
        "participants": array(either(MEMBER, text("The member's address.")), "The members concerned."),
        "action": text("`add`, `remove`, `promote`, `demote` or `modify`."),
    },
    {
        "author": text("The address of the person who made the change."),
        "authorPn": PHONE_JID,
    },
)
CALL = record(
    "A call. From Meta, with all members that Meta gives it, such as `event`, `direction` and `session`.",
    {
        "chatId": text("The address of the person who calls or is called.", is_nullable=True),
        "status": text(
            "The state: `offer`, `accept`, `reject` …; from Meta `connect`, `terminate` …", is_nullable=True
        ),
    },
    {
        "id": text("The id of the call."),
        "from": text("The person who calls: an address; from Meta, a number."),
        "date": text("The time, in ISO 8601."),
        "offline": flag("True if the instance was offline."),
        "isVideo": flag("True for a video call."),
        "isGroup": flag("True for a call of a group."),
    },
)
TYPEBOT_START = record(
    "A flow that has begun.",
    {"remoteJid": JID, "url": text("The URL of the Typebot server."), "typebot": text("The name of the flow.")},
    {"variables": array({}, "The variables it begins with."), "sessionId": text("The id of the session.")},
)
TYPEBOT_STATUS = record(
    "A session of a flow.",
    {"remoteJid": JID, "status": text("`opened`, `paused`, `closed` or `delete`.")},
    {"session": record("The session's row.", {})},
)
LABEL = record(
    "A label.",
    {"id": text("Its id."), "name": text("Its name.")},
    {
        "color": {"description": "The number of its colour.", "type": ["integer", "string"]},
        "deleted": flag("True if it was deleted."),
        "predefinedId": text("The id of WhatsApp's own label that it is.", is_nullable=True),
        "instance": INSTANCE_NAME,
    },
)
LABELED = record(
    "A label put on a chat, or taken off.",
    {
        "type": text("The change.", enum=["add", "remove"]),
        "chatId": JID,
        "labelId": text("The id of the label."),
    },
    {"instance": INSTANCE_NAME},
)
HISTORY_PART = record(
    "The totals of the history so far.",
    {
        "messageCount": whole("The number of messages.", minimum=0),
        "chatCount": whole("The number of chats.", minimum=0),
        "contactCount": whole("The number of contacts.", minimum=0),
        "progress": whole("How much of it has come, in percent.", minimum=0, maximum=100),
    },
)
NOTHING = nothing("Null: the envelope says it all.")
BUSINESS = record(
    "A change that Meta reports, without a counterpart in Evolution API.",
    {
        "field": text("Meta's name for the kind of change; null where it could not be read.", is_nullable=True),
        "value": record("Meta's own report.", {}),
        "businessId": text("The id of the business account.", is_nullable=True),
    },
    {"unreadable": whole("The number of members of Meta's payload that could not be read.", minimum=1)},
)
ENDPOINT_DISABLED = record(
    "An endpoint that is switched off.",
    {
        "endpoint": whole("The endpoint's id."),
        "transport": text("Its transport: `webhook`, `rabbitmq` …"),
        "reason": text("A sentence."),
    },
)
DROPPED = record("Deliveries that were dropped.", {"reason": text("A sentence.")})
CREDENTIALS = record("Nothing: it is sent to nobody.", {})
