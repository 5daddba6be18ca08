"""The code blocks and commands of the Markdown documents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.server import ROOT

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "bench/README.md"]
DOCUMENTS += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))

_BLOCK = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")


class Snippet(NamedTuple):
    """A fenced code block; `language` is the word behind the fence."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def snippets(*languages: str) -> list[Snippet]:
    """Return the snippets of all documents in one of these languages; of all languages where none is named."""
    found = []
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        for block in _BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 1
            found.append(Snippet(document, line, block[1], block[2]))
    return [snippet for snippet in found if not languages or snippet.language in languages]


def commands() -> Iterator[str]:
    """Yield what stands between backticks in the text of all documents."""
    for document in DOCUMENTS:
        for inline in _INLINE.finditer(_BLOCK.sub("", (ROOT / document).read_text())):
            yield inline[1]


def snippet(document: str, language: str, containing: str) -> str:
    """Return the text of the only such snippet."""
    (found,) = (each for each in snippets(language) if each.document == document and containing in each.text)
    return found.text


class Exchange(NamedTuple):
    """A request of a snippet in the language `http`, and the response that it shows, if it shows one."""

    method: str
    path: str
    body: Any
    status: int | None
    response: Any


_EXCHANGE = re.compile(
    r"(GET|POST|PATCH|DELETE) (\S+) *(.*?)(?:\n→ (\d+) *(.*?))?(?=\n(?:GET|POST|PATCH|DELETE) |\Z)", re.DOTALL
)


def exchanges(text: str) -> list[Exchange]:
    """Parse a snippet of requests, one under the other, each with `→`, status and body of its response below it."""
    return [
        Exchange(method, path, _json(body), int(status) if status else None, _json(response or ""))
        for method, path, body, status, response in _EXCHANGE.findall(text.strip())
    ]


def _json(text: str) -> Any:
    """Parse JSON in which `…` stands for further members."""
    if not text.strip():
        return None
    return json.loads(re.sub(r"\{…\}", "{}", re.sub(r",\s*…(?=\s*[,}\]])", "", text)))


def differences(shown: Any, real: Any, path: str = "") -> Iterator[str]:
    """Yield where a real value has not the form of the shown one: the same members, and values of the same type."""
    if isinstance(shown, dict) and isinstance(real, dict):
        for name, value in shown.items():
            if name in real:
                yield from differences(value, real[name], f"{path}.{name}")
            else:
                yield f"{path}.{name} is missing"
    elif isinstance(shown, list) and isinstance(real, list):
        for number, (one, other) in enumerate(zip(shown, real, strict=False)):
            yield from differences(one, other, f"{path}[{number}]")
        if shown and not real:
            yield f"{path} is empty"
    elif type(shown) is not type(real):
        yield f"{path} is {real!r}, and not as {shown!r}"
