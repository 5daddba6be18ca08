"""Messages of the Cloud API: as the Graph API takes them, and as Evolution API's events hold them.

https://developers.facebook.com/docs/whatsapp/cloud-api/messages. Files are given to the Graph API as URLs, for Meta to
fetch: nothing is fetched here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from instances.errors import ApiError
from instances.outbound_message import MediaFile, MessageKind, OutboundMessage
from instances.providers.cloud_api_cards import contact_card

#: The member of a message that Meta returns in its statuses.
CALLBACK_DATA = "biz_opaque_callback_data"
#: Buttons of a message, and characters of the description of a row, that the Graph API takes.
MAX_BUTTONS = 3
MAX_ROW_DESCRIPTION = 72
#: The language of a template whose sender names none.
DEFAULT_LANGUAGE = "en_US"

#: The names that files have whose sender and URL name none.
_FILE_NAMES = {"image": "image.png", "video": "video.mp4", "audio": "audio.mp3", "document": "document"}


@dataclass(frozen=True)
class Form:
    """Both forms of a message: Evolution API's `messageType` and `message`, and the Graph API's `type` and object."""

    type: str
    content: dict[str, Any]
    graph_type: str
    graph_object: Any


def graph_message(message: OutboundMessage) -> dict[str, Any]:
    """Return the body of POST /<phone number id>/messages."""
    form = form_of(message)
    user, _, server = message.remote_jid.partition("@")
    body = {
        "messaging_product": "whatsapp",
        "recipient_type": "group" if server == "g.us" else "individual",
        # people without a phone number are addressed by their business-scoped user id
        **({"recipient": user} if server == "lid" else {"to": user}),
        "type": form.graph_type,
        form.graph_type: form.graph_object,
    }
    if quoted_id := _quoted_id(message):
        body["context"] = {"message_id": quoted_id}
    if message.callback_data:
        body[CALLBACK_DATA] = message.callback_data
    return body


def content_of_send(message: OutboundMessage) -> tuple[str, dict[str, Any]]:
    """Return Evolution API's `messageType` and `message`. Raises ApiError for what the Graph API cannot be given."""
    form = form_of(message)
    quoted_id = _quoted_id(message)
    return form.type, form.content | ({"contextInfo": {"stanzaId": quoted_id}} if quoted_id else {})


def _quoted_id(message: OutboundMessage) -> str | None:
    """Return the id of the quoted message, None for a reaction: that names its message itself."""
    return message.quoted["key"]["id"] if message.quoted and message.kind != MessageKind.REACTION else None


def form_of(message: OutboundMessage) -> Form:
    """Return both forms of a message. Raises ApiError for what the Graph API cannot be given."""
    return FORMS[message.kind](message.members)


def _text(members: Any) -> Form:
    graph_object = {"body": members["text"], "preview_url": members["linkPreview"]}
    return Form("conversation", {"conversation": members["text"]}, "text", graph_object)


# Files


def _media(members: Any) -> Form:
    return _file(members, members["mediatype"], caption=members.get("caption") or None)


def _voice(members: Any) -> Form:
    return _file(members, "audio")


def _round_video(members: Any) -> Form:
    return _file(members, "video")


def _file(members: Any, graph_type: str, caption: str | None = None) -> Form:
    file: MediaFile = members["file"]
    url, name = _url(file), file.name or _FILE_NAMES[graph_type]
    caption = None if graph_type == "audio" else caption
    about = {
        **({"caption": caption} if caption else {}),
        "fileName": name,
        "mediaType": graph_type,
        "media": url,
        "gifPlayback": False,
        "id": url,
        "type": "link",
        **({"mimetype": file.mimetype} if file.mimetype else {}),
    }
    graph_object = {"link": _link(url)} | ({"caption": caption} if caption else {})
    if graph_type == "document":
        graph_object["filename"] = name
    return Form(f"{graph_type}Message", {f"{graph_type}Message": about}, graph_type, graph_object)


def _sticker(members: Any) -> Form:
    url = _url(members["file"])
    about = {"mediaType": "sticker", "media": url, "id": url, "type": "link", "mimetype": "image/webp"}
    return Form("stickerMessage", {"stickerMessage": about}, "sticker", {"link": _link(url)})


def _url(file: MediaFile) -> str:
    if file.url is None:
        raise ApiError(
            "Send the URL of the file, which Meta fetches: base64 and uploads can be sent by an instance of the "
            "Evolution channel, and by one of WhatsApp Business not yet"
        )
    return file.url


def _link(url: str) -> str:
    return url if "://" in url else f"https://{url}"


# Others


def _location(members: Any) -> Form:
    texts = {name: members[name] for name in ("name", "address") if members[name]}
    coordinates = {"degreesLatitude": members["latitude"], "degreesLongitude": members["longitude"]}
    graph_object = {"latitude": members["latitude"], "longitude": members["longitude"]} | texts
    return Form("locationMessage", {"locationMessage": coordinates | texts}, "location", graph_object)


def _contacts(members: Any) -> Form:
    contacts = [contact_card(contact) for contact in members["contact"]]
    cards = [{"displayName": contact.name, "vcard": contact.vcard} for contact in contacts]
    graph_object = [contact.graph_object for contact in contacts]
    if len(cards) == 1:
        return Form("contactMessage", {"contactMessage": cards[0]}, "contacts", graph_object)
    content = {"contactsArrayMessage": {"displayName": f"{len(cards)} contacts", "contacts": cards}}
    return Form("contactsArrayMessage", content, "contacts", graph_object)


def _reaction(members: Any) -> Form:
    content = {"reactionMessage": {"key": members["key"], "text": members["reaction"]}}
    graph_object = {"message_id": members["key"]["id"], "emoji": members["reaction"]}
    return Form("reactionMessage", content, "reaction", graph_object)


def _template(members: Any) -> Form:
    language = {"code": members["language"] or DEFAULT_LANGUAGE}
    graph_object = {"name": members["name"], "language": language}
    if members.get("components"):
        graph_object["components"] = members["components"]
    return Form("conversation", {"conversation": f"▶️{members['name']}◀️"}, "template", graph_object)


# Interactive messages


def _list(members: Any) -> Form:
    titles = [section["title"] for section in members["sections"]]
    if len(set(titles)) < len(titles):
        raise ApiError("Section tiles cannot be repeated")
    lines = [members["title"]]
    for section in members["sections"]:
        lines += [section["title"], *(row["title"] for row in section["rows"])]
    sections = [
        ({"title": each["title"]} if each["title"] else {}) | {"rows": [_row(row) for row in each["rows"]]}
        for each in members["sections"]
    ]
    action = {"button": members["buttonText"], "sections": sections}
    graph_object: dict[str, Any] = {"type": "list"}
    description = members.get("description")
    if description and members["title"]:
        graph_object["header"] = {"type": "text", "text": members["title"]}
    graph_object["body"] = {"text": description or members["title"] or "Select"}
    if members["footerText"]:
        graph_object["footer"] = {"text": members["footerText"]}
    return _interactive(lines, graph_object | {"action": action})


def _row(row: dict[str, Any]) -> dict[str, Any]:
    description = (row.get("description") or "")[:MAX_ROW_DESCRIPTION]
    return {"id": row["rowId"], "title": row["title"]} | ({"description": description} if description else {})


def _buttons(members: Any) -> Form:
    """Return a message with buttons that reply, whatever their types: the Graph API has no others beside each other."""
    buttons = members.get("buttons") or []
    if not buttons:
        raise ApiError("At least one button is required")
    if len(buttons) > MAX_BUTTONS:
        raise ApiError(f"Maximum of {MAX_BUTTONS} reply buttons allowed")
    texts = [_button_text(button) for button in buttons]
    ids = [button.get("id") or f"button-{place}" for place, button in enumerate(buttons, start=1)]
    if len(set(texts)) < len(texts) or len(set(ids)) < len(ids):
        raise ApiError(["Button texts cannot be repeated", "Button IDs cannot be repeated."])
    replies = [{"type": "reply", "reply": {"id": id_, "title": text}} for id_, text in zip(ids, texts, strict=True)]
    title, description = members.get("title") or "", members.get("description") or ""
    graph_object: dict[str, Any] = {"type": "button"}
    if members.get("thumbnailUrl"):
        graph_object["header"] = {"type": "image", "image": {"link": _link(members["thumbnailUrl"])}}
    body = f"*{title}*\n\n{description}" if title and description else title or description or "Select"
    graph_object["body"] = {"text": body}
    if members.get("footer"):
        graph_object["footer"] = {"text": members["footer"]}
    lines = [title, *(f"▶️ {text}" for text in texts)]
    return _interactive(lines, graph_object | {"action": {"buttons": replies}})


def _button_text(button: dict[str, Any]) -> str:
    names = ("displayText", "name", "copyCode", "url", "phoneNumber", "key")
    return next((button[name] for name in names if button.get(name)), str(button["type"]))


def _interactive(lines: list[str], graph_object: dict[str, Any]) -> Form:
    text = "".join(f"{line}\n" for line in lines)
    return Form("conversation", {"conversation": text}, "interactive", graph_object)


#: What makes both forms of each kind that is sent, of the members of its body.
FORMS: dict[MessageKind, Callable[[Any], Form]] = {
    MessageKind.TEXT: _text,
    MessageKind.MEDIA: _media,
    MessageKind.VOICE: _voice,
    MessageKind.ROUND_VIDEO: _round_video,
    MessageKind.STICKER: _sticker,
    MessageKind.LOCATION: _location,
    MessageKind.CONTACT: _contacts,
    MessageKind.REACTION: _reaction,
    MessageKind.LIST: _list,
    MessageKind.BUTTONS: _buttons,
    MessageKind.TEMPLATE: _template,
}
