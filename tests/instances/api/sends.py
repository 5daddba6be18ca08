"""What each integration makes of each kind of message: bodies, contents, and what Graph is sent."""

from __future__ import annotations

from typing import Any

NUMBER = "5511988887777"
URL = "https://files.example.com/docs/offer.pdf?sig=a.b"
PIXEL = "iVBORw0KGgo="

#: A valid body of each route.
BODIES: dict[str, dict[str, Any]] = {
    "sendText": {"number": NUMBER, "text": "Olá"},
    "sendMedia": {"number": NUMBER, "mediatype": "document", "media": URL, "caption": "Our offer"},
    "sendPtv": {"number": NUMBER, "video": "https://files.example.com/round"},
    "sendWhatsAppAudio": {"number": NUMBER, "audio": "files.example.com/voice.ogg", "encoding": True},
    "sendStatus": {"type": "text", "content": "Open", "backgroundColor": "#000", "font": 0, "allContacts": True},
    "sendSticker": {"number": NUMBER, "sticker": "https://files.example.com/s.webp"},
    "sendLocation": {"number": NUMBER, "latitude": -23.5, "longitude": -46, "name": "MASP", "address": "Paulista"},
    "sendContact": {
        "number": NUMBER,
        "contact": [
            {"fullName": "Bia Souza", "phoneNumber": "+55 21 97777-6666", "organization": "Loja", "url": "b.example"}
        ],
    },
    "sendReaction": {
        "key": {"id": "wamid.X", "remoteJid": f"{NUMBER}@s.whatsapp.net", "fromMe": False},
        "reaction": "👍🏽",
    },
    "sendPoll": {"number": NUMBER, "name": "When?", "selectableCount": 0, "values": ["Monday", "Friday"]},
    "sendList": {
        "number": NUMBER,
        "title": "Menu",
        "description": "What?",
        "footerText": "",
        "buttonText": "Choose",
        "sections": [
            {
                "title": "Pizza",
                "rows": [{"title": "A", "rowId": "a"}, {"title": "B", "rowId": "b", "description": "x" * 80}],
            }
        ],
    },
    "sendButtons": {
        "number": NUMBER,
        "title": "Order",
        "description": "Right?",
        "footer": "Loja",
        "buttons": [{"type": "reply", "displayText": "Yes", "id": "y"}, {"type": "reply", "displayText": "No"}],
    },
    "sendCarousel": {
        "number": NUMBER,
        "body": "New",
        "cards": [
            {
                "title": "Shirt",
                "body": "Cotton",
                "footer": "S to XL",
                "imageUrl": "https://files.example.com/shirt.png",
                "buttons": [
                    {"type": "reply", "displayText": "Ask"},
                    {"type": "url", "displayText": "Buy", "url": "https://shop.example.com"},
                ],
            }
        ],
    },
    "sendTemplate": {"number": NUMBER, "name": "order_sent", "language": "", "components": [{"type": "body"}]},
}

VCARD = (
    "BEGIN:VCARD\nVERSION:3.0\nN:Bia Souza\nFN:Bia Souza\nORG:Loja;\nURL:b.example\n"
    "item1.TEL;waid=5521977776666:+55 21 97777-6666\nitem1.X-ABLabel:Celular\nEND:VCARD"
)


def _file(kind: str, url: str, name: str, mimetype: str | None = None, **members: Any) -> dict[str, Any]:
    about = {"fileName": name, "mediaType": kind, "media": url, "gifPlayback": False, "id": url, "type": "link"}
    return members | about | ({"mimetype": mimetype} if mimetype else {})


#: What a WHATSAPP-BUSINESS instance announces: `messageType`, `message`, and Graph's `type` and object.
CLOUD: dict[str, tuple[str, dict[str, Any], str, Any]] = {
    "sendText": ("conversation", {"conversation": "Olá"}, "text", {"body": "Olá", "preview_url": False}),
    "sendMedia": (
        "documentMessage",
        {"documentMessage": _file("document", URL, "offer.pdf", "application/pdf", caption="Our offer")},
        "document",
        {"link": URL, "caption": "Our offer", "filename": "offer.pdf"},
    ),
    "sendPtv": (
        "videoMessage",
        {"videoMessage": _file("video", "https://files.example.com/round", "video.mp4")},
        "video",
        {"link": "https://files.example.com/round"},
    ),
    "sendWhatsAppAudio": (
        "audioMessage",
        {"audioMessage": _file("audio", "files.example.com/voice.ogg", "voice.ogg", "audio/ogg")},
        "audio",
        {"link": "https://files.example.com/voice.ogg"},
    ),
    "sendSticker": (
        "stickerMessage",
        {
            "stickerMessage": {
                "mediaType": "sticker",
                "media": "https://files.example.com/s.webp",
                "id": "https://files.example.com/s.webp",
                "type": "link",
                "mimetype": "image/webp",
            }
        },
        "sticker",
        {"link": "https://files.example.com/s.webp"},
    ),
    "sendLocation": (
        "locationMessage",
        {
            "locationMessage": {
                "degreesLatitude": -23.5,
                "degreesLongitude": -46,
                "name": "MASP",
                "address": "Paulista",
            }
        },
        "location",
        {"latitude": -23.5, "longitude": -46, "name": "MASP", "address": "Paulista"},
    ),
    "sendContact": (
        "contactMessage",
        {"contactMessage": {"displayName": "Bia Souza", "vcard": VCARD}},
        "contacts",
        [
            {
                "name": {"formatted_name": "Bia Souza", "first_name": "Bia Souza"},
                "phones": [{"phone": "+55 21 97777-6666", "wa_id": "5521977776666"}],
                "org": {"company": "Loja"},
                "urls": [{"url": "b.example"}],
            }
        ],
    ),
    "sendReaction": (
        "reactionMessage",
        {"reactionMessage": {"key": BODIES["sendReaction"]["key"], "text": "👍🏽"}},
        "reaction",
        {"message_id": "wamid.X", "emoji": "👍🏽"},
    ),
    "sendList": (
        "conversation",
        {"conversation": "Menu\nPizza\nA\nB\n"},
        "interactive",
        {
            "type": "list",
            "header": {"type": "text", "text": "Menu"},
            "body": {"text": "What?"},
            "action": {
                "button": "Choose",
                "sections": [
                    {
                        "title": "Pizza",
                        "rows": [
                            {"id": "a", "title": "A"},
                            {"id": "b", "title": "B", "description": "x" * 72},
                        ],
                    }
                ],
            },
        },
    ),
    "sendButtons": (
        "conversation",
        {"conversation": "Order\n▶️ Yes\n▶️ No\n"},
        "interactive",
        {
            "type": "button",
            "body": {"text": "*Order*\n\nRight?"},
            "footer": {"text": "Loja"},
            "action": {
                "buttons": [
                    {"type": "reply", "reply": {"id": "y", "title": "Yes"}},
                    {"type": "reply", "reply": {"id": "button-2", "title": "No"}},
                ]
            },
        },
    ),
    "sendTemplate": (
        "conversation",
        {"conversation": "▶️order_sent◀️"},
        "template",
        {"name": "order_sent", "language": {"code": "en_US"}, "components": [{"type": "body"}]},
    ),
}

_CARD = {
    "header": {
        "title": "Shirt",
        "hasMediaAttachment": True,
        "imageMessage": {"url": "https://files.example.com/shirt.png"},
    },
    "body": {"text": "Cotton"},
    "footer": {"text": "S to XL"},
    "nativeFlowMessage": {
        "buttons": [
            {"name": "quick_reply", "buttonParamsJson": '{"display_text": "Ask", "id": "card-1-1"}'},
            {
                "name": "cta_url",
                "buttonParamsJson": '{"display_text": "Buy", "url": "https://shop.example.com", '
                '"merchant_url": "https://shop.example.com"}',
            },
        ]
    },
}

#: What an EVOLUTION instance announces: `messageType` and `message`.
EVOLUTION: dict[str, tuple[str, dict[str, Any]]] = {
    "sendText": ("conversation", {"conversation": "Olá"}),
    "sendMedia": (
        "documentMessage",
        {
            "documentMessage": {"caption": "Our offer", "fileName": "offer.pdf", "mimetype": "application/pdf"},
            "mediaUrl": URL,
        },
    ),
    "sendWhatsAppAudio": (
        "audioMessage",
        {
            "audioMessage": {"ptt": True, "fileName": "voice.ogg", "mimetype": "audio/ogg"},
            "mediaUrl": "files.example.com/voice.ogg",
        },
    ),
    "sendButtons": (
        "buttonMessage",
        {name: BODIES["sendButtons"][name] for name in ("title", "description", "footer", "buttons")},
    ),
    "sendCarousel": (
        "interactiveMessage",
        {
            "interactiveMessage": {
                "body": {"text": "New"},
                "carouselMessage": {"cards": [_CARD], "messageVersion": 1},
            }
        },
    ),
}

#: Bodies that are refused, as changes of the valid one of a route (None removes a member), with the words.
INVALID: list[tuple[str, dict[str, Any], list[Any]]] = [
    ("sendMedia", {"mediatype": "gif"}, [["mediatype is not one of enum values: image,document,video,audio"]]),
    ("sendMedia", {"mediatype": None}, [['instance requires property "mediatype"']]),
    ("sendMedia", {"number": 5511}, [["number Invalid format"]]),
    ("sendMedia", {"delay": "soon"}, [["Enter a value in milliseconds"]]),
    ("sendMedia", {"media": 5}, [["media is not of a type(s) string"]]),
    ("sendMedia", {"media": None}, ["Owned media must be a url or base64"]),
    ("sendMedia", {"media": "http://localhost/x"}, ["Owned media must be a url or base64"]),
    ("sendMedia", {"media": "not base64!"}, ["Owned media must be a url or base64"]),
    ("sendMedia", {"media": "abc"}, ["Owned media must be a url or base64"]),
    ("sendMedia", {"media": "data:image/png,abcd"}, ["Owned media must be a url or base64"]),
    ("sendMedia", {"media": PIXEL}, ["For base64 the file name must be informed."]),
    (
        "sendMedia",
        {"gifPlayback": "yes", "gifAttribution": 3},
        [
            [
                "gifPlayback is not exactly one from [subschema 0],[subschema 1]",
                "gifAttribution is not exactly one from [subschema 0],[subschema 1]",
            ]
        ],
    ),
    ("sendMedia", {"mentioned": []}, [["mentioned does not meet minimum length of 1"]]),
    ("sendMedia", {"mentioned": ["5511", "5511"]}, [["mentioned contains duplicate item"]]),
    ("sendMedia", {"mentioned": ["ana"]}, [['mentioned[0] does not match pattern "^\\\\d+"']]),
    ("sendMedia", {"mentionsEveryOne": "yes"}, [["mentionsEveryOne is not of a type(s) boolean"]]),
    ("sendMedia", {"messageId": ""}, [['The "messageId" cannot be empty']]),
    ("sendMedia", {"messageId": "x" * 129}, [["messageId does not meet maximum length of 128"]]),
    ("sendMedia", {"retryUnknown": True}, [['retryUnknown requires property "id"']]),
    ("sendPtv", {"video": "x"}, ["Owned media must be a url or base64"]),
    ("sendWhatsAppAudio", {"audio": "x"}, ["Owned media must be a url, base64, or valid file with buffer"]),
    ("sendSticker", {"sticker": "x", "notConvertSticker": 1}, [["notConvertSticker is not of a type(s) boolean"]]),
    (
        "sendStatus",
        {"font": 6, "statusJidList": []},
        [["font must be less than or equal to 5", "statusJidList does not meet minimum length of 1"]],
    ),
    (
        "sendLocation",
        {"latitude": "1", "name": None},
        [["latitude is not of a type(s) number", 'instance requires property "name"']],
    ),
    ("sendLocation", {"longitude": 181}, [["longitude must be less than or equal to 180"]]),
    ("sendContact", {"contact": []}, [["contact does not meet minimum length of 1"]]),
    (
        "sendContact",
        {"contact": [{"fullName": "A", "phoneNumber": "551"}]},
        [["contact[0].phoneNumber does not meet minimum length of 10"]],
    ),
    (
        "sendContact",
        {"contact": [{}]},
        [['contact[0] requires property "fullName"', 'contact[0] requires property "phoneNumber"']],
    ),
    ("sendReaction", {"key": {"id": "x", "remoteJid": "y"}}, [['key requires property "fromMe"']]),
    ("sendReaction", {"reaction": "👍👍"}, ["Reaction must be a single emoji or empty string"]),
    ("sendReaction", {"reaction": "ok"}, ["Reaction must be a single emoji or empty string"]),
    (
        "sendPoll",
        {"selectableCount": 11, "values": ["a"]},
        [["selectableCount must be less than or equal to 10", "values does not meet minimum length of 2"]],
    ),
    ("sendPoll", {"values": ["a", "a"]}, [["values contains duplicate item"]]),
    ("sendList", {"sections": []}, [["sections does not meet minimum length of 1"]]),
    (
        "sendList",
        {"sections": [{"title": "x", "rows": [{"title": "a"}]}]},
        [['sections[0].rows[0] requires property "rowId"']],
    ),
    (
        "sendButtons",
        {"buttons": [{"type": "link"}]},
        [["buttons[0].type is not one of enum values: reply,copy,url,call,pix"]],
    ),
    ("sendCarousel", {"cards": [{"body": "x"}] * 11}, [["cards does not meet maximum length of 10"]]),
    ("sendCarousel", {"cards": [{"body": "x"}]}, [['cards[0] requires property "buttons"']]),
    ("sendTemplate", {"number": None}, [['instance requires property "number"']]),
    ("sendTemplate", {"components": {}}, [["components is not of a type(s) array"]]),
]

#: Bodies as clients send them: route, members beside `number`, and `messageType` and `message` at an engine.
CLIENTS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "version 1, text": (
        "sendText",
        {"textMessage": {"text": "Olá"}, "options": {"delay": 1200, "presence": "composing", "linkPreview": True}},
        "conversation",
        {"conversation": "Olá"},
    ),
    "version 1, media": (
        "sendMedia",
        {
            "mediaMessage": {"mediatype": "image", "media": PIXEL, "caption": "Hi", "fileName": "a.png"},
            "options": {"quoted": {"key": {"id": "Q"}}, "mentions": {"everyOne": False, "mentioned": ["5511"]}},
        },
        "imageMessage",
        {
            "imageMessage": {"caption": "Hi", "fileName": "a.png", "mimetype": "image/png"},
            "mediaUrl": None,
            "base64": PIXEL,
            "quoted": {"key": {"id": "Q"}},
        },
    ),
    "Evolution Manager, voice": (
        "sendWhatsAppAudio",
        {"audioMessage": {"audio": PIXEL}, "options": {"delay": 1200, "presence": "recording", "encoding": True}},
        "audioMessage",
        {"audioMessage": {"ptt": True}, "mediaUrl": None, "base64": PIXEL},
    ),
    "n8n, text": (
        "sendText",
        {
            "text": "Olá",
            "delay": 1200,
            "linkPreview": False,
            "quoted": {"key": {"id": "Q"}},
            "mentionsEveryOne": False,
            "mentioned": ["5511988887777@s.whatsapp.net"],
        },
        "conversation",
        {"conversation": "Olá", "quoted": {"key": {"id": "Q"}}},
    ),
    "n8n, video": (
        "sendMedia",
        {"mediatype": "video", "media": "https://a.example/v.mp4", "caption": "", "fileName": "", "gifPlayback": True},
        "videoMessage",
        {
            "videoMessage": {
                "gifPlayback": True,
                "gifAttribution": 0,
                "fileName": "v.mp4",
                "mimetype": "video/mp4",
            },
            "mediaUrl": "https://a.example/v.mp4",
        },
    ),
    "Evolution Manager, a link and a code": (
        "sendButtons",
        {
            "title": "Links",
            "description": "Two",
            "footer": "Loja",
            "buttons": [
                {"type": "url", "displayText": "Shop", "url": "https://a.example"},
                {"type": "copy", "displayText": "Code", "copyCode": "X1"},
            ],
        },
        "buttonMessage",
        {
            "title": "Links",
            "description": "Two",
            "footer": "Loja",
            "buttons": [
                {"type": "url", "displayText": "Shop", "url": "https://a.example"},
                {"type": "copy", "displayText": "Code", "copyCode": "X1"},
            ],
        },
    ),
    "Evolution Manager, Pix": (
        "sendButtons",
        {
            "title": "Pay",
            "buttons": [{"type": "pix", "currency": "BRL", "name": "Loja", "keyType": "random", "key": "k"}],
        },
        "buttonMessage",
        {
            "title": "Pay",
            "buttons": [{"type": "pix", "currency": "BRL", "name": "Loja", "keyType": "random", "key": "k"}],
        },
    ),
    "evolutionapi for Python": (
        "sendText",
        {"text": "Olá", "delay": 1000},
        "conversation",
        {"conversation": "Olá"},
    ),
    "whatsapp-toolkit": (
        "sendText",
        {"text": "Olá", "delay": 0, "linkPreview": False, "quoted": None},
        "conversation",
        {"conversation": "Olá"},
    ),
}
