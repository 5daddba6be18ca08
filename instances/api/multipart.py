"""Bodies of multipart/form-data (RFC 7578): a few texts, and a file."""

from __future__ import annotations

from binascii import b2a_base64
from dataclasses import dataclass
from typing import IO, Any

from django.utils.http import parse_header_parameters
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from instances.bounds import QUERY_FIELDS

#: Bytes of the headers of a part, and bytes of a file that are encoded in one piece, a multiple of three.
MAX_PART_HEAD = 1024
PIECE = 3 * 2**19


@dataclass(frozen=True)
class FormFile:
    """A file that was sent in a form."""

    name: str
    content_type: str
    content: bytes

    def base64(self) -> str:
        """Return the content in base64; encodes a piece at a time."""
        pieces = range(0, len(self.content), PIECE)
        encoded = [b2a_base64(self.content[start : start + PIECE], newline=False) for start in pieces]
        return b"".join(encoded).decode("ascii")


class FormData(dict[str, Any]):
    """The members of a form: texts, lists of texts where a name occurs more than once, and files."""


class MultipartParser(BaseParser):
    """Parse a multipart form by a search for its boundary: Django's own parser takes far longer for large files."""

    media_type = "multipart/form-data"

    def parse(self, stream: IO[bytes], media_type: str | None = None, parser_context: Any = None) -> FormData:
        boundary = parse_header_parameters(media_type or "")[1].get("boundary", "")
        if not boundary or len(boundary) > 200 or not boundary.isascii():
            raise ParseError("The Content-Type of a multipart form has to name its boundary")
        parts = (b"\r\n" + stream.read()).split(b"\r\n--" + boundary.encode(), QUERY_FIELDS + 1)[1:]
        if not parts or not parts[-1].startswith(b"--"):
            raise ParseError(f"The form is cut off, or has more than {QUERY_FIELDS} fields")
        form = FormData()
        for part in parts[:-1]:
            _add(form, part)
        return form


def _add(form: FormData, part: bytes) -> None:
    end = part.find(b"\r\n\r\n", 0, MAX_PART_HEAD)
    if end < 0:
        raise ParseError(f"A part of the form has no headers, or more than {MAX_PART_HEAD} bytes of them")
    headers = {}
    for line in part[:end].decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    parameters = parse_header_parameters(headers.get("content-disposition", ""))[1]
    name, content = parameters.get("name", ""), part[end + 4 :]
    if "filename" in parameters:
        form[name] = FormFile(parameters["filename"], headers.get("content-type", ""), content)
        return
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ParseError(f'"{name[:40]}" is not UTF-8') from None
    name = name.removesuffix("[]")
    earlier = form.get(name)
    if earlier is None:
        form[name] = text
    else:
        form[name] = [*(earlier if isinstance(earlier, list) else [earlier]), text]
