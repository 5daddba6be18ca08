"""The groups of the catalogue, in the order in which forms and pages show them."""

from __future__ import annotations

from django.db.models import TextChoices


class EventGroup(TextChoices):
    """A group of event types that are about the same kind of thing."""

    CONNECTION = "connection", "Connection"
    MESSAGES = "messages", "Messages"
    CHATS = "chats", "Chats"
    CONTACTS = "contacts", "Contacts"
    GROUPS = "groups", "Groups"
    CALLS = "calls", "Calls"
    LABELS = "labels", "Labels"
    TYPEBOT = "typebot", "Typebot"
    BUSINESS = "business", "Business account"
    INSTANCE = "instance", "Instance and server"
    DELIVERIES = "deliveries", "Deliveries"
