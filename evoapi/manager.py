"""Evolution Manager, the dashboard: a built copy that the operator has, served beside the API.

`/manager`, and what is below it and is no file, is the page itself: the dashboard has its routes in the browser.
Nothing but regular files inside EVOLUTION_MANAGER_DIR is served, whatever links and paths lead to.
"""

from __future__ import annotations

import asyncio
import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from django.conf import settings

from instances.access.gate import is_allowed_host
from instances.asgi import PIECE, Application, AsgiHeaders, Receive, Scope, Send, respond

PAGE = "index.html"

#: Content types by the end of a file's name; other files are downloads.
TYPES = {
    **{"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"},
    **{"mjs": "text/javascript; charset=utf-8", "json": "application/json", "map": "application/json"},
    **{"txt": "text/plain; charset=utf-8", "webmanifest": "application/manifest+json"},
    **{"svg": "image/svg+xml", "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "gif": "image/gif"},
    **{"webp": "image/webp", "avif": "image/avif", "ico": "image/x-icon", "woff": "font/woff", "woff2": "font/woff2"},
    **{"ttf": "font/ttf", "mp3": "audio/mpeg", "ogg": "audio/ogg", "mp4": "video/mp4", "wasm": "application/wasm"},
}
_DOWNLOAD = "application/octet-stream"

#: Seconds for which browsers keep an asset: its name changes with its content, but for images.
_ASSET_AGE = 3600


class Dashboard:
    """An ASGI application: GET and HEAD of `/manager` and `/assets/` are the dashboard's, `other` serves the rest."""

    def __init__(self, directory: Path, other: Application) -> None:
        self.root = directory.resolve()
        self.other = other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        beginning, slash, rest = scope["path"][1:].partition("/")
        is_page, is_asset = beginning.lower() == "manager", bool(slash) and beginning.lower() == "assets"
        host = AsgiHeaders(scope["headers"]).get("host", "")
        if scope["method"] not in ("GET", "HEAD") or not (is_page or is_asset) or not is_allowed_host(host):
            await self.other(scope, receive, send)
        elif is_asset:
            await self._asset(scope, send, rest)
        else:
            await self._page(scope, send, rest)

    async def _page(self, scope: Scope, send: Send, name: str) -> None:
        """Respond with a file of that name, or with the page, whose scripts know what to show."""
        if not _is_harmless(name) or not (
            await self._file(scope, send, name or PAGE) or await self._file(scope, send, PAGE)
        ):
            await _refuse(send, 404, "File not found")

    async def _asset(self, scope: Scope, send: Send, name: str) -> None:
        """Respond with a file of `assets`, and with Evolution API's texts where there is none."""
        if ".." in name or "\\" in name or name.startswith("/") or not name:
            await _refuse(send, 403, "Forbidden")
        elif not _is_harmless(name) or not await self._file(scope, send, f"assets/{name}"):
            await _refuse(send, 404, "File not found")

    async def _file(self, scope: Scope, send: Send, name: str) -> bool:
        """Respond with a file; return False if there is none. Threads read it, a piece each: disks may be slow."""
        file = await asyncio.to_thread(self._open, name)
        if file is None:
            return False
        try:
            size = os.fstat(file.fileno()).st_size
            await send({"type": "http.response.start", "status": 200, "headers": _headers(name, size)})
            left = size if scope["method"] == "GET" else 0
            while left > 0:
                piece = await asyncio.to_thread(file.read, min(PIECE, left))
                left = left - len(piece) if piece else 0  # it was cut meanwhile: the client sees that bytes are missing
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            file.close()
        return True

    def _open(self, name: str) -> BinaryIO | None:
        """Open a regular file inside the directory, None where there is none."""
        try:
            path = (self.root / name).resolve(strict=True)
            if not path.is_relative_to(self.root) or any(part[0] == "." for part in path.relative_to(self.root).parts):
                return None
            # neither a link that was put there meanwhile, nor a pipe, which would wait for somebody to write
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError, RuntimeError):  # too long, or a loop of links
            return None
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            return None
        return os.fdopen(file, "rb", buffering=0)


def _is_harmless(name: str) -> bool:
    """Return whether a path can name a file that is to be seen: no part is empty, hidden, or leads upwards."""
    if not name:
        return True
    parts = name.removesuffix("/").split("/", 20)
    return len(parts) <= 20 and not any(not part or part[0] == "." or "\\" in part or "\0" in part for part in parts)


def _headers(name: str, size: int) -> list[tuple[bytes, bytes]]:
    content_type = TYPES.get(name.rpartition(".")[2].lower(), _DOWNLOAD)
    age = f"public, max-age={_ASSET_AGE}" if name.startswith("assets/") else "no-cache"
    return [
        (b"content-type", content_type.encode()),
        (b"content-length", str(size).encode()),
        (b"cache-control", age.encode()),
        (b"content-security-policy", policy(settings.SERVER_URL)),
        (b"x-content-type-options", b"nosniff"),
    ]


@lru_cache(maxsize=1)
def policy(server_url: str) -> bytes:
    """Return the Content-Security-Policy of the dashboard.

    Its scripts and styles are files, but for a font of Google's and styles that its components set; it shows pictures
    and plays media of WhatsApp's servers and of messages. It may call this server alone, by the address of the page or
    by SERVER_URL: the key that it keeps goes nowhere else.
    """
    own = "'self'"
    if server_url:
        url = urlsplit(server_url)
        own += f" {url.scheme}://{url.netloc} {'wss' if url.scheme == 'https' else 'ws'}://{url.netloc}"
    return (
        f"default-src 'self'; connect-src {own}; script-src 'self'; style-src 'self' 'unsafe-inline' "
        "https://fonts.googleapis.com; font-src 'self' data: https://fonts.gstatic.com; "
        "img-src 'self' data: blob: https:; media-src 'self' data: blob: https:; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ).encode()


async def _refuse(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
    await respond(send, status, [*headers, (b"cache-control", b"no-store")], text.encode())
