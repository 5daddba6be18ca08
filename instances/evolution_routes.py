"""The routes of Evolution API 2.4, and `docs/compatibility.md`, which says which of them are here.

`make compatibility` writes the document.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from django.urls import Resolver404, resolve


class Route(NamedTuple):
    """A route of Evolution API; `path` has its parameters in braces: `{name}` is an instance's name."""

    method: str
    path: str


class Family(NamedTuple):
    """Routes that belong together, and what there is to say about those of them that are not here."""

    title: str
    routes: tuple[Route, ...]
    missing: str


def _posts(prefix: str, names: str) -> Iterator[Route]:
    return (Route("POST", f"/{prefix}/{name}/{{name}}") for name in names.split())


def _gets(prefix: str, names: str) -> Iterator[Route]:
    return (Route("GET", f"/{prefix}/{name}/{{name}}") for name in names.split())


def _deletes(prefix: str, names: str) -> Iterator[Route]:
    return (Route("DELETE", f"/{prefix}/{name}/{{name}}") for name in names.split())


def _bot(name: str, *more: Route) -> tuple[Route, ...]:
    """Return the routes of a chatbot's integration."""
    return (
        *_posts(name, "create settings changeStatus ignoreJid"),
        *_gets(name, "find fetchSettings"),
        Route("GET", f"/{name}/fetch/{{id}}/{{name}}"),
        Route("GET", f"/{name}/fetchSessions/{{id}}/{{name}}"),
        Route("PUT", f"/{name}/update/{{id}}/{{name}}"),
        Route("DELETE", f"/{name}/delete/{{id}}/{{name}}"),
        *more,
    )


_COMES = "They come next."
_NO_SOCKET = "They are about WhatsApp Web, which an engine of yours speaks: they come with a way to pass them on to it."
_NO_BOTS = "There are no chatbots here: run them as clients. The routes will answer that they are disabled."

FAMILIES = (
    Family(
        "Server",
        (
            Route("GET", "/"),
            Route("POST", "/verify-creds"),
            Route("GET", "/assets/{file}"),
            Route("GET", "/metrics"),
            Route("GET", "/license/status"),
            Route("GET", "/license/register"),
            Route("GET", "/license/activate"),
        ),
        "No licence is needed. The routes of Evolution's licence, its Manager and its metrics come next.",
    ),
    Family(
        "Instances",
        (
            Route("POST", "/instance/create"),
            Route("GET", "/instance/fetchInstances"),
            *_gets("instance", "connect connectionState"),
            *_posts("instance", "restart setPresence"),
            *_deletes("instance", "logout delete"),
            *_posts("settings", "set"),
            *_gets("settings", "find"),
            *_posts("proxy", "set"),
            *_gets("proxy", "find"),
        ),
        _COMES,
    ),
    Family(
        "Events",
        tuple(
            Route(method, f"/{transport}/{verb}/{{name}}")
            for transport in ("webhook", "websocket", "rabbitmq", "nats", "sqs", "kafka", "pusher")
            for method, verb in (("POST", "set"), ("GET", "find"))
        ),
        "Events go to sockets, event streams, webhooks and RabbitMQ; the other brokers are not planned.",
    ),
    Family(
        "Messages",
        tuple(
            _posts(
                "message",
                "sendText sendMedia sendPtv sendWhatsAppAudio sendStatus sendSticker sendLocation sendContact "
                "sendReaction sendPoll sendList sendButtons sendCarousel sendTemplate",
            )
        ),
        "They come next, as far as the channel of the instance can send them.",
    ),
    Family(
        "Chats",
        (
            *_posts(
                "chat",
                "whatsappNumbers markMessageAsRead markMessageAsPlayed archiveChat markChatUnread "
                "fetchProfilePictureUrl getBase64FromMediaMessage updateMessage sendPresence updateBlockStatus "
                "findContacts findMessages findStatusMessage findChats fetchBusinessProfile fetchProfile "
                "updateProfileName updateProfileStatus updateProfilePicture updatePrivacySettings getPollVote "
                "findChannels",
            ),
            *_gets("chat", "findChatByRemoteJid fetchPrivacySettings"),
            *_deletes("chat", "deleteMessageForEveryone removeProfilePicture"),
        ),
        "They come next, as far as they answer from what is stored; until then, `GET /event/find/{name}` looks back.",
    ),
    Family(
        "Groups",
        (
            *_posts(
                "group",
                "create updateGroupSubject updateGroupPicture updateGroupDescription sendInvite revokeInviteCode "
                "updateParticipant updateSetting updateMemberAddMode toggleEphemeral",
            ),
            *_gets("group", "findGroupInfos fetchAllGroups participants inviteCode inviteInfo acceptInviteCode"),
            *_deletes("group", "leaveGroup"),
        ),
        _NO_SOCKET,
    ),
    Family(
        "Labels, calls, business, templates, media",
        (
            *_gets("label", "findLabels"),
            *_posts("label", "handleLabel"),
            *_posts("call", "offer"),
            *_posts("business", "getCatalog getCollections"),
            *_posts("template", "create edit"),
            *_deletes("template", "delete"),
            *_gets("template", "find"),
            *_posts("s3", "getMedia getMediaUrl"),
        ),
        _COMES,
    ),
    Family(
        "What comes in",
        (Route("GET", "/webhook/meta"), Route("POST", "/webhook/meta"), Route("POST", "/webhook/evolution")),
        "",
    ),
    Family(
        "Baileys",
        (
            *_gets("baileys", "generateMessageID"),
            *_posts(
                "baileys",
                "onWhatsapp profilePictureUrl assertSessions createParticipantNodes getUSyncDevices generateMessageTag "
                "sendNode signalRepositoryDecryptMessage getAuthState",
            ),
        ),
        "They hand out what a session of WhatsApp Web consists of. There is none here.",
    ),
    Family(
        "Chatbots and Chatwoot",
        (
            *_bot("typebot", Route("POST", "/typebot/start/{name}")),
            *_bot(
                "openai",
                Route("POST", "/openai/creds/{name}"),
                Route("GET", "/openai/creds/{name}"),
                Route("DELETE", "/openai/creds/{id}/{name}"),
                Route("GET", "/openai/getModels/{name}"),
            ),
            *_bot("dify"),
            *_bot("evolutionBot"),
            *_bot("flowise"),
            *_bot("n8n"),
            *_bot("evoai"),
            *_posts("chatwoot", "set webhook"),
            *_gets("chatwoot", "find"),
        ),
        _NO_BOTS,
    ),
)

ROUTES = tuple(route for family in FAMILIES for route in family.routes)


def is_evolution_route(method: str, path: str) -> bool:
    """Return whether Evolution API has this route; `path` has the values of its parameters."""
    pattern = _patterns().get(method)
    return pattern is not None and pattern.fullmatch(path) is not None


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    paths: dict[str, list[str]] = {}
    for method, path in ROUTES:
        pattern = "/".join("[^/]+" if part.startswith("{") else re.escape(part) for part in path.split("/"))
        paths.setdefault(method, []).append(pattern)
    return {method: re.compile("|".join(patterns)) for method, patterns in paths.items()}


def is_here(route: Route) -> bool:
    """Return whether this server answers a route of Evolution API."""
    try:
        view = resolve(route.path.replace("{", "").replace("}", "")).func
    except Resolver404:
        return False
    return hasattr(getattr(view, "cls", None), route.method.lower()) or not hasattr(view, "cls")


def document() -> str:
    """Return docs/compatibility.md."""
    lines = [_INTRODUCTION.format(count=len(ROUTES), here=sum(map(is_here, ROUTES)))]
    for family in FAMILIES:
        lines += ["", f"## {family.title}", ""]
        if not all(map(is_here, family.routes)):
            lines += [family.missing, ""]
        lines += ["| Route | |", "|---|---|"]
        lines += [f"| `{route.method} {route.path}` | {_state(route)} |" for route in family.routes]
    return "\n".join(lines) + "\n"


def _state(route: Route) -> str:
    return "here" if is_here(route) else "not here"


_INTRODUCTION = """\
# Compatibility with Evolution API

What is here, what is not, and what comes. Of the {count} routes of Evolution API 2.4 this server has {here}, each with
its requests and answers in `/openapi.json`. The others answer 404, and say that Evolution API has them. Routes of our
own are in the [README](../README.md) and in `/openapi.json`, too.

`make compatibility` writes this page, from the list in `instances/evolution_routes.py` and the URLs that are served."""
