"""The filter of everything that is logged: what strangers send may stand in a log line, but makes none."""

from __future__ import annotations

import logging
import re

from instances.bounds import LOG_CHARACTERS
from instances.crypto import mask_keys

#: Control characters, and what else ends a line or turns it around (Unicode's line ends, bidirectional marks).
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

#: Lines of a traceback are indented, so that none can pass for a log line.
_INDENT = "    "

#: Lines of a traceback that are logged: as many of its beginning as of its end.
MAX_LINES = 200


class LogFilter(logging.Filter):
    """Rewrites each record: its message becomes one line, and its traceback indented lines, of LOG_CHARACTERS at most.

    Keys in queries and passwords in URLs are masked.
    """

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "is_filtered", False):  # by another handler's
            return True
        record.is_filtered = True
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # its arguments do not fit; the message alone tells which it is
            message = str(record.msg)
        record.msg, record.args = one_line(message.strip()), ()
        if record.exc_info and record.exc_info[0] and not record.exc_text:
            record.exc_text = self._formatter.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = _indented(record.exc_text)
        if record.stack_info:
            record.stack_info = _indented(record.stack_info)
        return True


def one_line(text: str) -> str:
    """Return a text as one line: its control characters escaped, its keys masked, its end cut off."""
    line = _CONTROLS.sub(_escape, mask_keys(text[:LOG_CHARACTERS]))
    if len(text) <= LOG_CHARACTERS >= len(line):
        return line
    return f"{line[:LOG_CHARACTERS]}… (of {len(text)} characters)"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _indented(traceback: str) -> str:
    lines = traceback.split("\n")
    if len(lines) > MAX_LINES:  # the exception's own text may have many
        lines[MAX_LINES // 2 : -MAX_LINES // 2] = [f"… {len(lines) - MAX_LINES} lines …"]
    return "\n".join(_INDENT + one_line(line) for line in lines)
