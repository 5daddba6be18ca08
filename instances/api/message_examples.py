"""Examples of the bodies that send messages, for the OpenAPI document; each of them is valid."""

from __future__ import annotations

from typing import Any

from instances.outbound_message import MessageKind

NUMBER = "5511988887777"

EXAMPLES: dict[MessageKind, dict[str, Any]] = {
    MessageKind.TEXT: {"number": NUMBER, "text": "Hello, Ana", "quoted": {"key": {"id": "wamid.HBgM"}}},
    MessageKind.MEDIA: {
        "number": NUMBER,
        "mediatype": "document",
        "media": "https://files.example.com/offer.pdf",
        "mimetype": "application/pdf",
        "caption": "Our offer",
        "fileName": "offer.pdf",
    },
    MessageKind.ROUND_VIDEO: {"number": NUMBER, "video": "https://files.example.com/round.mp4"},
    MessageKind.VOICE: {"number": NUMBER, "audio": "https://files.example.com/voice.ogg"},
    MessageKind.STATUS: {
        "type": "text",
        "content": "Open until 8 pm",
        "backgroundColor": "#008000",
        "font": 1,
        "allContacts": True,
    },
    MessageKind.STICKER: {"number": NUMBER, "sticker": "https://files.example.com/sticker.webp"},
    MessageKind.LOCATION: {
        "number": NUMBER,
        "latitude": -23.5613,
        "longitude": -46.6565,
        "name": "MASP",
        "address": "Avenida Paulista 1578",
    },
    MessageKind.CONTACT: {
        "number": NUMBER,
        "contact": [{"fullName": "Bia Souza", "phoneNumber": "+55 21 97777-6666", "wuid": "5521977776666"}],
    },
    MessageKind.REACTION: {
        "key": {"id": "wamid.HBgM", "remoteJid": f"{NUMBER}@s.whatsapp.net", "fromMe": False},
        "reaction": "👍",
    },
    MessageKind.POLL: {"number": NUMBER, "name": "When?", "selectableCount": 1, "values": ["Monday", "Friday"]},
    MessageKind.LIST: {
        "number": NUMBER,
        "title": "Menu",
        "description": "What may it be?",
        "footerText": "Until 10 pm",
        "buttonText": "Choose",
        "sections": [{"title": "Pizza", "rows": [{"title": "Margherita", "description": "Basil", "rowId": "p1"}]}],
    },
    MessageKind.BUTTONS: {
        "number": NUMBER,
        "title": "Your order",
        "description": "Is it right?",
        "footer": "Loja Centro",
        "buttons": [
            {"type": "reply", "displayText": "Yes", "id": "yes"},
            {"type": "reply", "displayText": "No", "id": "no"},
        ],
    },
    MessageKind.CAROUSEL: {
        "number": NUMBER,
        "body": "New this week",
        "cards": [
            {
                "title": "Shirt",
                "body": "Cotton",
                "imageUrl": "https://files.example.com/shirt.png",
                "buttons": [{"type": "url", "displayText": "Buy", "url": "https://shop.example.com/shirt"}],
            }
        ],
    },
    MessageKind.TEMPLATE: {
        "number": NUMBER,
        "name": "order_sent",
        "language": "pt_BR",
        "components": [{"type": "body", "parameters": [{"type": "text", "text": "4711"}]}],
    },
}

ANSWER = {
    "key": {"remoteJid": f"{NUMBER}@s.whatsapp.net", "fromMe": True, "id": "wamid.HBgN"},
    "status": "PENDING",
    "message": {"conversation": "Hello, Ana"},
    "messageType": "conversation",
    "messageTimestamp": 1761057627,
    "instanceId": "7b1f0000-0000-4000-8000-000000000000",
    "source": "unknown",
}
