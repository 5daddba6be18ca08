"""Nothing calls home: a server that does all that it can connects to this machine alone, and looks up no name."""

from __future__ import annotations

import re
import subprocess
import sys
from urllib.parse import quote

import pytest

from instances.evolution_routes import ROUTES
from tests.audited import CONTACT
from tests.clients.polling import Polling
from tests.in_process import until
from tests.receiver import Receiver
from tests.server import ROOT, Server

pytestmark = pytest.mark.any_database

#: This machine; None is any of its addresses, to listen on.
LOOPBACK = {"'127.0.0.1'", "'::1'", "'localhost'", "None"}


class AuditedServer(Server):
    """A server whose log names the hosts that it has contacted."""

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "tests.audited", "serve", str(self.port)]
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        self._wait_for_port()

    def contacts(self) -> set[tuple[str, str]]:
        """Return the events and hosts so far."""
        found = re.findall(f"^{CONTACT} ([a-zA-Z_.]+): (.+)$", self.log.read_text(), re.MULTILINE)
        return {(event, host) for event, host in found}


@pytest.mark.slow
def test_a_server_at_work_connects_to_this_machine_alone(environment):
    server = AuditedServer(environment | {"AUTHENTICATION_API_KEY": "a-key-that-must-not-leave-0123456789"})
    key = server.environment["AUTHENTICATION_API_KEY"]
    server.start()
    try:
        with Receiver() as receiver:
            for integration in ("EVOLUTION", "WHATSAPP-BUSINESS", "WHATSAPP-BAILEYS"):
                _use(server, receiver, key, f"audited {integration}", integration)
            until(lambda: len(receiver.requests) >= 3)
    finally:
        server.stop()
    contacts = server.contacts()
    assert ("socket.connect", "'127.0.0.1'") in contacts, "the webhook's receiver"
    assert [(event, host) for event, host in contacts if host not in LOOPBACK] == []


def _use(server: Server, receiver: Receiver, key: str, name: str, integration: str) -> None:
    """Create an instance, subscribe, and request every route of Evolution API; a deletion comes last."""
    body = {"instanceName": name, "integration": integration, "number": str(5511 + len(name)), "token": f"t-{name}"}
    webhook = {"enabled": True, "url": receiver.url, "events": []}
    assert server.post("/instance/create", body | {"webhook": webhook, "qrcode": True}, key=key).status == 201
    session = Polling(server.url)
    session.join(f"/{name}", apikey=key)
    path = quote(name)
    server.post(f"/event/publish/{path}", {"event": "call", "data": {}}, key=key)
    text = {"number": "5511988887777", "text": "see https://example.com/", "linkPreview": True}
    server.post(f"/message/sendText/{path}", text, key=key)
    image = {"number": "5511988887777", "mediatype": "image", "media": "https://example.com/a.png"}
    server.post(f"/message/sendMedia/{path}", image, key=key)
    proxy = {"enabled": True, "host": "proxy.example.com", "port": "80", "protocol": "http"}
    server.post(f"/proxy/set/{path}", proxy, key=key)
    for route in sorted(ROUTES, key=lambda route: route.path.startswith("/instance/delete")):
        if route.path != "/instance/create":
            sent = None if route.method in ("GET", "DELETE") else {}
            server.request(route.method, route.path.format(name=path, id="1", file="x.js"), sent, key=key)
    for ours in ("/openapi.json", f"/event/find/{path}", "/admin/login/", "/socket.io/socket.io.js"):
        server.get(ours, key=key)
