"""Bodies and queries of the routes that read stored messages, chats and contacts.

A filter that is absent does not restrict.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from instances.api.fields import Flag, Text, WholeNumber
from instances.api.serializers import RequestBody
from instances.bounds import PAGE_ROWS

#: The last page, and the last row, that can be asked for.
MAX_POSITION = 2**31 - 1
#: The rows of a page unless a body says otherwise.
DEFAULT_ROWS = 50
#: Seconds from which a number is taken for milliseconds, as JavaScript's clock has them: the year 5138.
_MILLISECONDS_FROM = 10**11


class Moment(serializers.Field):
    """A time in seconds; as ISO 8601, in UTC unless it says otherwise, or in seconds or milliseconds since 1970."""

    default_error_messages = dict.fromkeys(
        ("type", "null"), "is not a time: send ISO 8601, such as 2026-01-31T12:00:00Z"
    )

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, int | float) and not isinstance(data, bool) and abs(data) < 2**53:
            return data / 1000 if abs(data) >= _MILLISECONDS_FROM else data
        if not isinstance(data, str) or len(data) > 64:
            self.fail("type")
        try:
            moment = datetime.fromisoformat(data.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            self.fail("type")

    def schema(self) -> dict[str, Any]:
        number = {"type": "number", "minimum": 1 - 2**53, "maximum": 2**53 - 1}
        return {"oneOf": [{"type": "string", "format": "date-time"}, number]}


class Identifier(Text):
    """An id or an address, as columns hold them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**({"required": False, "max_length": 255} | kwargs))


class Period(RequestBody):
    gte = Moment(required=False)
    lte = Moment(required=False)


class PagedBody(RequestBody):
    """A page by its number, and its size, which Evolution API calls `offset`."""

    page = WholeNumber(default=1, min_value=1, max_value=MAX_POSITION)
    offset = WholeNumber(default=DEFAULT_ROWS, min_value=1, max_value=PAGE_ROWS)


class MessageKeyFilter(RequestBody):
    id = Identifier()
    fromMe = Flag(required=False)
    remoteJid = Identifier()
    remoteJidAlt = Identifier()
    participant = Identifier()
    participants = Identifier(help_text="Another name of `participant`, which Evolution API's Cloud API has.")


class MessageFilter(RequestBody):
    id = Identifier()
    source = Identifier()  # type: ignore[assignment]
    messageType = Identifier()
    key = MessageKeyFilter(required=False)
    messageTimestamp = Period(required=False)


class FindMessagesBody(PagedBody):
    where = MessageFilter(required=False)


class StatusFilter(RequestBody):
    id = Identifier(help_text="The WhatsApp id of the message, its `keyId`.")
    remoteJid = Identifier()
    fromMe = Flag(required=False)
    participant = Identifier()
    status = Identifier()


class FindStatusBody(PagedBody):
    where = StatusFilter(required=False)


class ContactFilter(RequestBody):
    id = Identifier(help_text="The id of the row, or the address.")
    remoteJid = Identifier()
    pushName = Identifier()


class FindContactsBody(RequestBody):
    """Without `page` and `offset`, as many as a page may have."""

    where = ContactFilter(required=False)
    page = WholeNumber(required=False, min_value=1, max_value=MAX_POSITION)
    offset = WholeNumber(required=False, min_value=1, max_value=PAGE_ROWS)


class ChatFilter(RequestBody):
    remoteJid = Identifier()
    messageTimestamp = Period(required=False)


class FindChatsBody(RequestBody):
    """`page` and `offset`, which n8n's node sends, are the same as a `skip` and a `take`."""

    where = ChatFilter(required=False)
    take = WholeNumber(required=False, min_value=1, max_value=PAGE_ROWS)
    skip = WholeNumber(default=0, min_value=0, max_value=MAX_POSITION)
    page = WholeNumber(required=False, min_value=1, max_value=MAX_POSITION)
    offset = WholeNumber(required=False, min_value=1, max_value=PAGE_ROWS)


class FindChannelsBody(RequestBody):
    #: Evolution API takes it and filters nothing.
    also_known = ("where",)

    page = WholeNumber(default=1, min_value=1, max_value=MAX_POSITION)
    limit = WholeNumber(required=False, min_value=1, max_value=PAGE_ROWS)
    rows = WholeNumber(required=False, min_value=1, max_value=PAGE_ROWS, help_text="Another name of `limit`.")


class PictureBody(RequestBody):
    number = Identifier(required=True)


class KeyReference(RequestBody):
    also_known = None

    id = Identifier(required=True)


class MessageReference(RequestBody):
    """A message as it is stored, or its `key` with the `id` alone."""

    also_known = None

    key = KeyReference()


class PollVoteBody(RequestBody):
    message = MessageReference()
    remoteJid = Identifier(required=True)


class MediaMessageBody(RequestBody):
    message = MessageReference()
    convertToMp4 = Flag(default=False)


class StoredMediaBody(RequestBody):
    id = Identifier()
    type = Identifier()
    messageId = Identifier()


class StoredMediaUrlBody(RequestBody):
    id = Identifier(required=True)
    expiry = serializers.RegexField(
        r"^[0-9]{1,10}$", required=False, error_messages={"invalid": 'expiry does not match pattern "^\\\\d+$"'}
    )
