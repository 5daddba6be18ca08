from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from shlex import quote
from typing import Any

import orjson
from django.conf import settings
from django.core.management.base import BaseCommand

from instances.crypto import UnreadableSecret
from instances.models import Instance
from instances.providers.cloud_api import CloudApi
from instances.providers.evolution import EvolutionChannel

TEXT = """
evoapi

  REST and Socket.IO   {url}
  Admin                {url}/admin/        {username} / {password}
  Live console         {url}/console/      the same login
  Documents            {url}/docs/         begin with {url}/docs/guides/quick-start/
  Global key           {key}

{instances}
Receive all events of "{name}" (npm install socket.io-client; Python: python-socketio):

  const {{ io }} = require("socket.io-client");
  const socket = io({namespace}, {{ auth: {{ apikey: {token} }} }});
  socket.on("connect", () => console.log("connected"));
  socket.on("connect_error", (error) => console.log(error.message));
  socket.onAny((event, data) => console.log(event, JSON.stringify(data)));
  // send a message; all clients of "{name}" receive the event send.message
  socket.emit("send_message", {{ message: "Hello, World!" }}, (response) => console.log(response));

Post an inbound message, as an Evolution channel does:

  curl {url}/webhook/evolution -H {header} -H 'Content-Type: application/json' \\
    -d {inbound}
{meta}
`.venv/bin/python manage.py credentials` shows this again.
"""

META = """
Post an inbound message, as Meta does to the Cloud API's webhook. Clients of "{name}" receive it once:

  curl {url}/webhook/meta -H 'Content-Type: application/json' \\
    -H 'X-Hub-Signature-256: sha256={signature}' \\
    -d {payload}
"""


class Command(BaseCommand):
    help = "Show the URLs of this server, the admin's login, the keys, and example requests."

    def handle(self, *args: Any, **options: Any) -> None:
        url = settings.SERVER_URL or f"http://{_shown_host()}:{settings.SERVER_PORT}"
        instances = list(Instance.objects.all()[:20])
        first = next((i for i in instances if i.integration == EvolutionChannel.integration and i.number), None)
        name, token = (first.name, _shown(first)) if first else ("<instance name>", "<its token>")
        rows = [f'  Instance "{i.name}"  {i.integration}, token {_shown(i)}' for i in instances]
        if first is None:
            rows.append("  (no instance of the Evolution channel yet: POST /instance/create)")
        self.stdout.write(
            TEXT.format(
                url=url,
                username=settings.DJANGO_SUPERUSER_USERNAME,
                password=settings.DJANGO_SUPERUSER_PASSWORD or "(set with manage.py changepassword)",
                key=settings.AUTHENTICATION_API_KEY,
                instances="\n".join(rows) + "\n",
                name=name,
                # quoted: whoever chose names, tokens and ids must run nothing where this is pasted
                namespace=_javascript(f"{url}/{name}"),
                token=_javascript(token),
                header=quote(f"apikey: {token}"),
                inbound=quote(orjson.dumps(_inbound(first)).decode()),
                meta=_meta(url, next((i for i in instances if i.integration == CloudApi.integration), None)),
            )
        )


def _shown(instance: Instance) -> str:
    try:
        return instance.token.reveal()
    except UnreadableSecret:
        return "(cannot be decrypted: see ENCRYPTION_KEYS)"


def _javascript(text: str) -> str:
    """Return a text as a string of JavaScript."""
    return orjson.dumps(text).decode()


def _shown_host() -> str:
    return "127.0.0.1" if settings.SERVER_HOST in ("0.0.0.0", "::") else settings.SERVER_HOST  # noqa: S104


def _inbound(instance: Instance | None) -> dict[str, Any]:
    return {
        "numberId": instance.number if instance else "<its number>",
        "key": {"remoteJid": "5511988887777@s.whatsapp.net", "fromMe": False},
        "pushName": "Ana Lima",
        "message": {"conversation": "Good morning"},
        "messageType": "conversation",
    }


def _meta(url: str, instance: Instance | None) -> str:
    if instance is None or not settings.WA_BUSINESS_APP_SECRET:
        return ""
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": instance.phone or "", "phone_number_id": instance.number},
        "contacts": [{"profile": {"name": "Ana Lima"}, "wa_id": "5511988887777"}],
        "messages": [
            {
                "from": "5511988887777",
                "id": f"wamid.{secrets.token_hex(8)}",
                "timestamp": str(int(time.time())),
                "type": "text",
                "text": {"body": "Good morning"},
            }
        ],
    }
    entry = {"id": instance.business_id or "0", "changes": [{"field": "messages", "value": value}]}
    payload = orjson.dumps({"object": "whatsapp_business_account", "entry": [entry]})
    signature = hmac.new(settings.WA_BUSINESS_APP_SECRET.encode(), payload, hashlib.sha256).hexdigest()
    return META.format(url=url, name=instance.name, signature=signature, payload=quote(payload.decode()))
