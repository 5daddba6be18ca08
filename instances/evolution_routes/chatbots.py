"""The routes of Evolution API's chatbots and of Chatwoot."""

from __future__ import annotations

from instances.evolution_routes.route import BOTS_OFF, EVERYWHERE, Family, Route, routes

#: The chatbots, by the first part of their paths.
BOTS = ("typebot", "openai", "dify", "evolutionBot", "flowise", "n8n", "evoai")


def _bot(name: str, *more: Route) -> tuple[Route, ...]:
    """Return the routes of a chatbot's integration."""
    return (
        *routes("POST", name, "create", 201, BOTS_OFF),
        *routes("POST", name, "settings changeStatus ignoreJid", answers=BOTS_OFF),
        *routes("GET", name, "find fetchSettings fetch/{id} fetchSessions/{id}"),
        *routes("PUT", name, "update/{id}", answers=BOTS_OFF),
        *routes("DELETE", name, "delete/{id}", answers=BOTS_OFF),
        *more,
    )


_MORE = {
    "typebot": tuple(routes("POST", "typebot", "start", answers=BOTS_OFF)),
    "openai": (
        *routes("POST", "openai", "creds", 201, BOTS_OFF),
        *routes("GET", "openai", "creds getModels"),
        *routes("DELETE", "openai", "creds/{id}", answers=BOTS_OFF),
    ),
}

CHATBOTS = Family(
    "Chatbots and Chatwoot",
    (
        *(route for bot in BOTS for route in _bot(bot, *_MORE.get(bot, ()))),
        *routes("POST", "chatwoot", "set", 201, BOTS_OFF),
        *routes("GET", "chatwoot", "find", answers=EVERYWHERE),
        *routes("POST", "chatwoot", "webhook", answers=BOTS_OFF),
    ),
    "Lists are empty, single things are `null`.",
)
