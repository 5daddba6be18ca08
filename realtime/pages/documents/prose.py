"""Docstrings and descriptions as HTML: Markdown, in which no HTML of its own passes."""

from __future__ import annotations

import re

from django.utils.safestring import SafeString

from realtime.pages.documents.markdown import PARSER


def prose(text: str) -> SafeString:
    """Return paragraphs, lists and code of a text."""
    return SafeString(PARSER.render(text))


def inline(text: str) -> SafeString:
    """Return a text of one paragraph, without a paragraph's tags."""
    return SafeString(PARSER.renderInline(text))


def plain(text: str) -> str:
    """Return the first sentence of a text, without marks."""
    sentence = re.split(r"(?<=[.:])\s", text.strip(), maxsplit=1)[0]
    return sentence.replace("`", "").rstrip(":")
