"""The guides, and the documents in detail: the Markdown files under docs/, as pages."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from django.urls import reverse

from realtime.pages.documents.markdown import Rendered, render
from realtime.pages.documents.navigation import DocumentPage, Section

#: Beside the code, and not beside the settings: a project that includes evoapi has a BASE_DIR of its own.
DIRECTORY = Path(__file__).resolve().parents[3] / "docs"

#: The guides, in the order in which they are read, each with a sentence for lists of pages.
GUIDES = {
    "guides/quick-start.md": "From a fresh clone to events in a program, in ten minutes.",
    "guides/browser-clients.md": "A page that hears events without holding a key.",
    "guides/resuming.md": "Nothing lost and nothing twice, whatever happens to the connection.",
    "guides/verifying-webhooks.md": "Endpoints in Python, Node and PHP that take only what this server has sent.",
    "guides/moving-from-evolution.md": "What to change, and what not, when you come from Evolution API.",
    "guides/cloud-api.md": "A number of Meta's WhatsApp Cloud API, from the app at Meta to the first answer.",
    "guides/several-processes.md": "PostgreSQL, a proxy, several servers, and upgrades without a gap.",
    "guides/troubleshooting.md": "Each error with its cause and its cure.",
}
#: What each subject is in all its detail.
DETAILS = {
    "clients.md": "Sockets, event streams and REST: keys, envelope, resuming, sending, errors.",
    "webhooks.md": "What arrives, when it is sent again, what became of it.",
    "settings.md": "Each environment variable with default, unit and example.",
    "limits.md": "What a client, a key, an instance or the process may hold or cost.",
    "rights.md": "What keys and users may do.",
    "proxies.md": "nginx and Caddy, for one process and for several.",
    "channels.md": "Beside Django Channels, under uvicorn, Daphne or Hypercorn.",
    "compatibility.md": "What each of Evolution API's routes and variables does here.",
    "manager.md": "Evolution API's dashboard with this server.",
}
FILES = GUIDES | DETAILS
#: The columns of tables whose code names what people search for: variables and errors.
NAMES = {"settings.md": 0, "limits.md": 1, "guides/troubleshooting.md": 0}
#: Files that have a page that is not made of them.
MADE_ELSEWHERE = {"events.md": "/docs/events/"}


def path_of(file: str) -> str:
    return reverse("documents:guide", args=[Path(file).stem])


def _resolve(file: str, target: str) -> str | None:
    """Return the URL of what a link in a file leads to, or None if there is no page of it."""
    if target.startswith(("#", "http://", "https://")):
        return target
    name, hash_sign, anchor = target.partition("#")
    name = posixpath.normpath(posixpath.join(posixpath.dirname(file), name))
    page = path_of(name) if name in FILES else MADE_ELSEWHERE.get(name)
    return f"{page}{hash_sign}{anchor}" if page else None


@lru_cache(len(FILES))
def rendered(file: str) -> Rendered:
    """Return a file of docs/ as its page shows it."""
    return render((DIRECTORY / file).read_text("utf-8"), partial(_resolve, file), NAMES.get(file))


def _pages(files: dict[str, str]) -> Sequence[DocumentPage]:
    """Return the pages of files with their summaries."""
    found = [(file, rendered(file), summary) for file, summary in files.items()]
    return [DocumentPage(each.title, path_of(file), summary, each.headings) for file, each, summary in found]


def find(name: str) -> str | None:
    """Return the file of the page with this name."""
    return next((file for file in FILES if Path(file).stem == name), None)


SECTION = Section("Guides", "Each leads through one job, from the start to the end.", partial(_pages, GUIDES))
DETAILS_SECTION = Section("In detail", "Each subject with all that there is to say.", partial(_pages, DETAILS))
