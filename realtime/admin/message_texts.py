"""Search for a text in the newest messages. No index has it, so how many are looked at is bounded."""

from __future__ import annotations

import re
from time import monotonic
from typing import Any, NamedTuple

import orjson
from django.db.models import F, TextField, Value
from django.db.models.functions import Coalesce, Greatest, Lower, NullIf, StrIndex, Substr

from instances import json_body
from instances.access.staff import within_limit
from instances.bounds import SEARCH_MILLISECONDS, SEARCHED_MESSAGES
from instances.models import Message

#: Characters of a text that is searched for.
MIN_TEXT = 3
#: Messages that one query looks at.
PIECE = 2500
#: Characters of a content before the match, and from it on, that are read.
BEFORE, AFTER = 120, 120
#: Characters of an excerpt that is shown.
MAX_EXCERPT = 100

#: The members of a content that hold what people write.
_MEMBER = re.compile(
    r'"(?:conversation|text|caption|title|description|displayText|selectedDisplayText|contentText|footerText|footer'
    r'|buttonText|displayName|fileName|name|address|comment|body)":$'
)


class Found(NamedTuple):
    """A message with the text, and the part of the text around it."""

    message: Message
    excerpt: str


class TextSearch:
    """The newest messages that a user may see with a text in them; upper and lower case are alike."""

    def __init__(self, user: Any, text: str) -> None:
        self.text = text
        self.found: list[Found] = []
        #: The number of messages that were looked at, at most; those of other users' instances count.
        self.looked_at = 0
        self._rows = within_limit(user, Message.objects.all(), "instance_id")

    def run(self, limit: int) -> None:
        """Look at the newest messages, piece by piece, until `limit` are found or a bound is reached."""
        newest = Message.objects.order_by("-pk").values_list("pk", flat=True).first()
        deadline = monotonic() + SEARCH_MILLISECONDS / 1000
        top = newest or 0
        while top > 0 and len(self.found) < limit and self.looked_at < SEARCHED_MESSAGES and monotonic() < deadline:
            piece = min(PIECE, SEARCHED_MESSAGES - self.looked_at)
            self._look_at(top - piece, top, limit)
            self.looked_at += min(piece, top)
            top -= piece

    def _look_at(self, after: int, upto: int, limit: int) -> None:
        """Add the messages of a range of ids with the text in their content, of which a few characters are read."""
        needles = _spellings(json_body.dumps(self.text).decode()[1:-1])
        content = Lower("content", output_field=TextField())
        position = Coalesce(*(NullIf(StrIndex(content, Value(each)), Value(0)) for each in needles), Value(0))
        start = Greatest(F("position") - BEFORE, 1)
        rows = self._rows.filter(pk__gt=after, pk__lte=upto).annotate(position=position).filter(position__gt=0)
        rows = rows.annotate(start=start, part=Substr("content", start, BEFORE + AFTER, output_field=TextField()))
        shown = rows.select_related("instance").only("wa_id", "remote_jid", "instance__name").order_by("-pk")
        for message in shown[: 4 * limit]:  # some have it in the name of a member
            offset = message.position - message.start
            excerpt = _excerpt(message.part, offset, len(needles[0]))
            if excerpt and len(self.found) < limit:
                self.found.append(Found(message, excerpt))


def _spellings(text: str) -> list[str]:
    """Return the spellings of a text that lower-case contents are searched for, all of the same length.

    SQLite's LOWER leaves letters beyond ASCII as they are: É is looked for in either case.
    """
    spellings = (text.lower(), text, text.upper(), text.capitalize())
    # bytes.lower, too, changes ASCII alone
    lowered = dict.fromkeys(each.encode().lower().decode() for each in spellings)
    return [each for each in lowered if len(each) == len(text)]


def _excerpt(part: str, offset: int, length: int) -> str:
    """Return the text that has the match, from a part of a JSON document; "" if it is none that people write."""
    before, rest = part[:offset], part[offset:]
    quote = _last_quote(before)
    if quote >= 0:
        if not _MEMBER.search(before[:quote]):
            return ""
        before = before[quote + 1 :]
    elif " " not in part:  # media in base64
        return ""
    end = re.search(r'(?<!\\)"', rest[length:])
    text = before + (rest[: length + end.start()] if end else rest)
    try:
        text = orjson.loads(f'"{text}"')
    except orjson.JSONDecodeError:  # cut in the middle of an escape
        text = text.replace("\\n", " ")
    if len(text) > MAX_EXCERPT:
        begin = max(0, min(len(before) - MAX_EXCERPT // 3, len(text) - MAX_EXCERPT))
        text = ("… " if begin else "") + text[begin : begin + MAX_EXCERPT] + " …"
    return " ".join(text.split())


def _last_quote(text: str) -> int:
    """Return the index of the last quotation mark that is not escaped, -1 without one."""
    return max((match.start() for match in re.finditer(r'(?<!\\)"', text)), default=-1)
