"""Files for the servers and the load generator: instances, keys, clients and requests."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.processes import ROOT, SETTINGS, WORK, environment

NAMESPACES = 1000
META, META_NUMBER = "meta", "106540352242922"
KEY_TO_ALL = "evo_key-that-opens-all-instances"

#: Requests of each list. More than a measurement sends, since a repeated message makes no event.
POSTS = 40_000
SENDERS = 100


def name(number: int) -> str:
    return f"instance-{number:04}"


def token(name: str) -> str:
    return f"token-of-{name}"


def instances(count: int) -> Path:
    """Write the instances and keys as JSON for the servers; return the path."""
    names = [name(number) for number in range(count)]
    keys = {token(name): name for name in [*names, META]} | {KEY_TO_ALL: "*"}
    config = {"instances": names, "keys": keys, "meta": META, "meta_number": META_NUMBER}
    path = WORK / f"instances-{count}.json"
    path.write_text(json.dumps(config))
    return path


def clients(names: list[str]) -> Path:
    """Write a list of clients; return its path.

    For each namespace in turn they have its token, or an API key and `recover`; for a single one there are both.
    """
    path = WORK / f"clients-{names[0]}-{len(names)}.txt"
    lines = []
    for number, namespace in enumerate(names):
        kinds: list[dict[str, Any]] = [{"apikey": token(namespace)}, {"apikey": KEY_TO_ALL, "recover": True}]
        chosen = kinds if len(names) == 1 else [kinds[number % 2]]
        lines += [f"/{namespace}\t{json.dumps(auth)}\n" for auth in chosen]
    path.write_text("".join(lines))
    return path


def database() -> Path:
    """Create a DATA_DIR with all instances, to be copied for each server; return its path."""
    path = WORK / "data"
    command = [sys.executable, "-m", "bench.servers.evoapi", "prepare", str(instances(NAMESPACES))]
    subprocess.run(command, cwd=ROOT, env=environment(path), check=True)
    return path


# HTTP/1.1 requests as bytes


def requests(name: str) -> Path:
    """Return the path of a list of requests relative to ROOT, which has no spaces."""
    return (WORK / f"requests-{name}.txt").relative_to(ROOT)


def _write(name: str, items: list[bytes]) -> None:
    (ROOT / requests(name)).write_bytes(b"".join(b"%d\n%s" % (len(request), request) for request in items))


def _request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    lines = {"Host": "127.0.0.1"} | {name.replace("_", "-"): value for name, value in headers.items()}
    if body:
        lines |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def write_requests() -> None:
    key, own = SETTINGS["AUTHENTICATION_API_KEY"], name(0)
    _write("fetch", [_request("GET", f"/instance/fetchInstances?instanceName={own}", apikey=key)])
    _write("find", [_request("GET", f"/websocket/find/{own}", apikey=key)])
    numbers = range(1, POSTS + 1)
    _write("meta", [_signed(_meta(number)) for number in numbers])
    bodies = [_evolution(number) for number in numbers]
    _write("evolution", [_request("POST", "/webhook/evolution", body, apikey=token(own)) for body in bodies])


def _signed(body: bytes) -> bytes:
    signature = hmac.new(SETTINGS["WA_BUSINESS_APP_SECRET"].encode(), body, hashlib.sha256).hexdigest()
    return _request("POST", "/webhook/meta", body, X_Hub_Signature_256=f"sha256={signature}")


def _meta(number: int) -> bytes:
    sender = str(5511900000000 + number % SENDERS)
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550783881", "phone_number_id": META_NUMBER},
        "contacts": [{"profile": {"name": "Ana Lima"}, "wa_id": sender}],
        "messages": [
            {
                "from": sender,
                "id": f"wamid.HBgNNTUxMTk4ODg4Nzc3NxUCABIYFDNFQjBDNzY3RDI2{number:08}",
                "timestamp": "1761057627",
                "text": {"body": f"ts={number} Good morning! The parcel came yesterday, thank you."},
                "type": "text",
            }
        ],
    }
    entry = {"id": "102290129340398", "changes": [{"value": value, "field": "messages"}]}
    return json.dumps({"object": "whatsapp_business_account", "entry": [entry]}).encode()


def _evolution(number: int) -> bytes:
    jid = f"{5511900000000 + number % SENDERS}@s.whatsapp.net"
    payload = {
        "numberId": "5511000000000",
        "key": {"remoteJid": jid, "fromMe": False, "id": f"3EB0C767D26A{number:08}"},
        "pushName": "Ana Lima",
        "message": {"conversation": f"ts={number} Good morning! The parcel came yesterday, thank you."},
        "messageType": "conversation",
    }
    return json.dumps(payload).encode()
