"""Contacts that are sent: as vCards (RFC 2426), and as the Graph API takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from instances.names import digits


@dataclass(frozen=True)
class ContactCard:
    """A contact in both forms."""

    name: str
    vcard: str
    graph_object: dict[str, Any]


def contact_card(contact: dict[str, Any]) -> ContactCard:
    """Return both forms of an item of `contact` in the body of POST /message/sendContact."""
    name, phone = contact["fullName"], contact["phoneNumber"]
    whatsapp_id = digits(contact.get("wuid") or phone)
    lines = ["BEGIN:VCARD", "VERSION:3.0", f"N:{_escaped(name)}", f"FN:{_escaped(name)}"]
    graph_object: dict[str, Any] = {
        "name": {"formatted_name": name, "first_name": name},
        "phones": [{"phone": phone} | ({"wa_id": whatsapp_id} if whatsapp_id else {})],
    }
    if organization := contact.get("organization"):
        lines.append(f"ORG:{_escaped(organization)};")
        graph_object["org"] = {"company": organization}
    if email := contact.get("email"):
        lines.append(f"EMAIL:{_escaped(email)}")
        graph_object["emails"] = [{"email": email}]
    if url := contact.get("url"):
        lines.append(f"URL:{_escaped(url)}")
        graph_object["urls"] = [{"url": url}]
    waid = f";waid={whatsapp_id}" if whatsapp_id else ""
    lines += [f"item1.TEL{waid}:{_escaped(phone)}", "item1.X-ABLabel:Celular", "END:VCARD"]
    return ContactCard(name, "\n".join(lines), graph_object)


def _escaped(text: str) -> str:
    """Return a text on one line: a line break in it would begin another property."""
    return " ".join(text.splitlines())
