"""The request of a delivery as a curl command, for a shell. Secrets are variables, which its first lines ask for."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from shlex import quote

from instances.crypto import MASK
from instances.models import Subscription
from instances.outbound.webhook_headers import JWT_KEY
from instances.outbound.webhook_urls import masked_url
from realtime.api.responses import masked_body, masked_headers
from realtime.delivery.models import Delivery
from realtime.delivery.payload import Payload

#: Bytes of a body that the command itself holds: systems take some 128 KiB in one argument.
MAX_INLINE = 64 * 1024

#: Headers that each attempt computes anew.
_SIGNED = ("webhook-timestamp", "webhook-signature")

_SIGN = """\
WEBHOOK_TIMESTAMP=$(date +%s)
KEY=$(printf %s "${SIGNING_SECRET#whsec_}" | openssl base64 -d -A | od -An -v -tx1 | tr -d ' \\n')
WEBHOOK_SIGNATURE=v1,$({ printf '%s.%s.' "$WEBHOOK_ID" "$WEBHOOK_TIMESTAMP"; cat "$BODY"; } |
  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$KEY" -binary | openssl base64 -A)"""


@dataclass
class _Script:
    """The lines of a command, and the variables that somebody has to set before."""

    #: Each with the text that stands for its value, and a comment.
    variables: list[tuple[str, str, str]] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    def variable(self, name: str, example: str, comment: str) -> str:
        """Add a variable that the reader fills in, with a number behind its name if that is taken; returns its use."""
        taken = {each for each, _, _ in self.variables}
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        name = next(each for each in names if each not in taken)
        self.variables.append((name, example, comment))
        return f"${name}"

    def header(self, name: str, value: str) -> None:
        self.arguments.append(f"-H {quote(f'{name}: {value}')}")

    def header_of_variable(self, name: str, variable: str) -> None:
        # the name in quotes of its own: it may hold backticks, in which a shell would run a command
        self.arguments.append(f'-H {quote(f"{name}: ")}"{variable}"')


def curl_command(delivery: Delivery, endpoint: Subscription | None, payload: Payload, is_signed: bool) -> str:
    """Return the command that repeats a webhook request. `is_signed`: whether its endpoint has a signing secret.

    The URL in its body is masked. The body of a large one is read from the file body.json, which the page of the event
    has.
    """
    script = _Script()
    shown = masked_url(delivery.destination)
    url = quote(shown)
    if shown != delivery.destination:
        url = f'"{script.variable("URL", shown, "the URL of the endpoint")}"'
    stored = endpoint.shown_secret("headers", {}) if endpoint else {}
    secret = {"authorization" if name == JWT_KEY else name.lower() for name in stored}
    for name, value in masked_headers(delivery, endpoint, payload).items():
        if name in _SIGNED or name == "webhook-id":
            continue
        if name.lower() in secret and value == MASK:
            variable = re.sub(r"\W", "_", name, flags=re.ASCII).upper()
            is_token = name.lower() == "authorization" and JWT_KEY in stored
            comment = "a JSON Web Token that is signed anew for each attempt" if is_token else "a stored header"
            script.header_of_variable(name, script.variable(f"HEADER_{variable}", "...", comment))
        else:
            script.header(name, value)
    script.header_of_variable("webhook-id", "$WEBHOOK_ID")
    script.header_of_variable("webhook-timestamp", "$WEBHOOK_TIMESTAMP")
    if is_signed:
        script.variable("SIGNING_SECRET", "whsec_...", "the signing secret of the endpoint")
        script.header_of_variable("webhook-signature", "$WEBHOOK_SIGNATURE")
    script.arguments.append('--data-binary @"$BODY"')
    lines = [f"{name}={quote(example)}  # {comment}" for name, example, comment in script.variables]
    lines += [f"WEBHOOK_ID={quote(delivery.event_id)}", *_body(payload)]
    lines += _SIGN.splitlines() if is_signed else ["WEBHOOK_TIMESTAMP=$(date +%s)"]
    return "\n".join([*lines, " \\\n  ".join([f"curl -i --globoff -X POST {url}", *script.arguments])]) + "\n"


def _body(payload: Payload) -> list[str]:
    """Return the lines that set the variable BODY, the name of a file with the bytes, but for the URL in them."""
    if len(payload) > MAX_INLINE:
        return ["BODY=body.json  # download it from the page of the event: it is too large for a command"]
    text = masked_body(bytes(payload)).decode(errors="replace")
    return ["BODY=$(mktemp)", f'printf %s {quote(text)} > "$BODY"']
