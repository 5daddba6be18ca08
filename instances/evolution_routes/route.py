"""A route of Evolution API, and this server's answer to it for each kind of instance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

#: The kinds of instances, in the order of `Route.answers`: values of `integration`, with their names for people.
KINDS = {"WHATSAPP-BAILEYS": "WhatsApp Web", "WHATSAPP-BUSINESS": "Cloud API", "EVOLUTION": "Evolution channel"}


class Answer(NamedTuple):
    """The answer to a valid request; `status` is None for the route's success."""

    status: int | None
    #: What the document says of it.
    text: str
    #: True if Evolution API shows a success for this kind of instance, and this answer is none.
    departs: bool = False


WORKS = Answer(None, "works")
#: Evolution API refuses this for the kind of instance, and so does this server.
REFUSED = Answer(400, "400, as Evolution API")
#: Evolution API refuses it, and this server can do it.
BEYOND = Answer(None, "works, beyond Evolution API")
#: The empty success of a transport that an Evolution API has switched off.
EMPTY = Answer(None, "empty")
NO_ENGINE = Answer(400, "**400** no engine", departs=True)
NO_BOTS = Answer(400, "**400** disabled", departs=True)
NO_MEDIA = Answer(400, "**400** no media", departs=True)

SWITCHED_OFF = Answer(400, "**400** switched off", departs=True)

#: Reasons for the answers that depart from Evolution API's.
REASONS = {
    NO_ENGINE: (
        "No engine for WhatsApp Web is part of this server: the instance stays closed, and what needs a phone says "
        '`The "x" instance is not connected`, with a hint in the header `X-Evoapi-Note`.'
    ),
    NO_BOTS: (
        "There are no chatbots and no Chatwoot here: run them as clients. Lists are empty, and every write says "
        "`Typebot is disabled` (and so on), as Evolution API does where they are switched off."
    ),
    SWITCHED_OFF: (
        "Unless `RABBITMQ_ENABLED=true`, so that nobody waits for events that never come. Evolution API answers 201 "
        "with an empty body and stores nothing."
    ),
    NO_MEDIA: "Media are neither uploaded, nor fetched from WhatsApp, nor stored yet: send them by URL.",
}

#: The answers of routes that do not depend on the kind of instance, and of those that only a phone can serve.
EVERYWHERE = (WORKS, WORKS, WORKS)
BY_PHONE = (NO_ENGINE, REFUSED, REFUSED)
BOTS_OFF = (NO_BOTS, NO_BOTS, NO_BOTS)


class Route(NamedTuple):
    """A route of Evolution API; `path` has its parameters in braces: `{name}` is an instance's name."""

    method: str
    path: str
    #: The status of a success.
    success: int
    #: The answers for KINDS, in that order.
    answers: tuple[Answer, Answer, Answer]
    #: A sentence or two on what differs from Evolution API.
    note: str = ""

    def status(self, kind: str) -> int:
        """Return the status of the answer to a valid request for an instance with this `integration`."""
        return self.answers[list(KINDS).index(kind)].status or self.success


class Family(NamedTuple):
    """Routes that belong together, with a sentence on all of them."""

    title: str
    routes: tuple[Route, ...]
    text: str = ""


def routes(
    method: str,
    prefix: str,
    names: str,
    success: int = 200,
    answers: tuple[Answer, Answer, Answer] = EVERYWHERE,
    note: str = "",
) -> Iterator[Route]:
    """Yield the routes `/prefix/<one of names>/{name}`."""
    for name in names.split():
        yield Route(method, f"/{prefix}/{name}/{{name}}", success, answers, note)
