"""A Graph API on this machine, as Meta documents it: it accepts messages, or responds as a test wants it to."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Any
    method: str = "POST"
    query: dict[str, str] = field(default_factory=dict)

    @property
    def token(self) -> str:
        return self.headers["Authorization"].removeprefix("Bearer ")


class Graph:
    """A server in a thread of its own; `requests` are those that it received."""

    def __init__(self) -> None:
        self.requests: list[Asked] = []
        self.answers: list[Answering] = []
        self.arrived = threading.Semaphore(0)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(10)

    async def _start(self) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        host, port = self.runner.addresses[0][:2]
        return f"http://{host}:{port}"

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def forget(self) -> None:
        self.requests, self.answers, self.arrived = [], [], threading.Semaphore(0)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        about = (request.method, dict(request.query))
        self.requests.append(Asked(request.path, dict(request.headers), json.loads(body) if body else None, *about))
        self.arrived.release()
        answering = self.answers.pop(0) if self.answers else self.take
        return await answering(request)

    # Responses

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Accept a message, or return an error as Meta does."""
        message = json.loads(await request.read())
        if not re.fullmatch(r"/v\d+\.\d/\d+/messages", request.path) or request.method != "POST":
            return error(400, 100, "Unsupported post request")
        if not request.headers.get("Authorization", "").startswith("Bearer "):
            return error(401, 190, "Invalid OAuth access token - Cannot parse access token")
        if message.get("messaging_product") != "whatsapp" or not (message.get("to") or message.get("recipient")):
            return error(400, 100, "(#100) Invalid parameter")
        if not isinstance(message.get(message.get("type")), dict | list):
            return error(400, 100, "(#100) Invalid parameter")
        if message["type"] == "text" and not 0 < len(message["text"]["body"]) <= 4096:
            return error(400, 100, "(#100) Param text['body'] must be at most 4096 characters long.")
        return taken(f"wamid.{secrets.token_hex(12)}", message.get("to"))

    def next(self, *answers: Answering | web.StreamResponse) -> None:
        """Set the responses to the next requests: a response, or a function that returns it."""
        for answer in answers:
            self.answers.append(answer if callable(answer) else _always(answer))

    def held(self, answer: Answering | web.StreamResponse | None = None) -> Callable[[], None]:
        """Make the next request wait; returns a function that lets it proceed."""
        gate = asyncio.Event()
        answering = self.take if answer is None else answer if callable(answer) else _always(answer)

        async def wait(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            return await answering(request)

        self.next(wait)
        return lambda: self.loop.call_soon_threadsafe(gate.set)


def _always(answer: web.StreamResponse) -> Answering:
    async def give(request: web.Request) -> web.StreamResponse:
        return answer

    return give


def taken(id: Any, to: str | None = None) -> web.Response:
    contacts = [{"input": to, "wa_id": to}]
    return web.json_response({"messaging_product": "whatsapp", "contacts": contacts, "messages": [{"id": id}]})


def error(status: int, code: int, message: str, **members: Any) -> web.Response:
    """https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes"""
    members = {
        "message": message,
        "type": "OAuthException",
        "code": code,
        "fbtrace_id": "Az8or2yhqkZfEZ-_4Qn_Bam",
    } | members
    return web.json_response({"error": members}, status=status)


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Close the connection without a response."""
    assert request.transport
    request.transport.close()
    return web.Response()


async def break_off(request: web.Request) -> web.StreamResponse:
    """Announce a body, and send half of it."""
    answer = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "100"})
    await answer.prepare(request)
    await answer.write(b'{"messages": [{"id": ')
    assert request.transport
    request.transport.close()
    return answer


def in_drops(body: bytes) -> Answering:
    """Send the body a byte at a time."""

    async def drip(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        for byte in body:
            await answer.write(bytes([byte]))
            await asyncio.sleep(0)
        await answer.write_eof()
        return answer

    return drip
