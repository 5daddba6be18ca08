"""The curl command of a delivery, run in a shell against a receiver."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess

import pytest
from standardwebhooks.webhooks import Webhook as Verifier

from instances.outbound.webhook_headers import JWT_KEY, check_headers
from realtime.delivery.payload import Payload
from realtime.pages.console.curl import MAX_INLINE, curl_command
from tests.conftest import missing
from tests.realtime.admin.rows import create_delivery, create_endpoint
from tests.receiver import Receiver

pytestmark = [pytest.mark.any_database, pytest.mark.django_db]

SIGNING = "whsec_" + "A" * 43 + "="


def run(command, directory, **variables):
    for program in ("curl", "openssl", "sh"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed")
    lines = command.splitlines()
    for name, value in variables.items():
        [index] = [index for index, line in enumerate(lines) if line.startswith(f"{name}=")]
        lines[index] = f"{name}='{value}'"
    script = "\n".join(lines)
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        ["sh", "-eu", "-c", script], cwd=directory, env=environment, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr


def test_the_command_sends_the_same_request_with_secrets_from_variables(loja, tmp_path):
    body = json.dumps({"event": "call", "data": 'it\'s 100% \\ "quoted" $HOME `id` é'}).encode()
    with Receiver() as receiver:
        endpoint = create_endpoint(loja, f"{receiver.url}/secret-path")
        delivery = create_delivery(endpoint, body=body)
        command = curl_command(delivery, endpoint, Payload(body), is_signed=True)
        assert "secret-path" not in command
        assert "value-of-a-header" not in command
        assert SIGNING not in command
        secrets = {"URL": f"{receiver.url}/secret-path", "HEADER_X_KEY": "value-of-a-header", "SIGNING_SECRET": SIGNING}
        run(command, tmp_path, **secrets)
    [request] = receiver.requests
    assert (request.path, request.body, request.headers["X-Key"]) == ("/in/secret-path", body, "value-of-a-header")
    assert request.headers["X-Instance-Name"] == "loja centro"
    Verifier(SIGNING).verify(request.body, dict(request.headers))


def test_names_of_headers_are_quoted_and_have_a_variable_each(loja, tmp_path):
    names = ["`touch`", "x|touch&", "x$HOME", "it's", "x-key", "x.key"]
    headers = {name: f"value {number}" for number, name in enumerate(names)}
    with Receiver() as receiver:
        endpoint = create_endpoint(loja, receiver.url.removesuffix("/in"))
        endpoint.keep_secrets(headers=check_headers(headers))
        command = curl_command(create_delivery(endpoint), endpoint, Payload(b"{}"), is_signed=False)
        variables = re.findall("^(HEADER_[A-Z0-9_]+)=", command, re.M)
        assert len(set(variables)) == len(headers)
        run(command, tmp_path, **dict(zip(variables, headers.values(), strict=True)))
    [request] = receiver.requests
    assert {name: request.headers[name] for name in headers} == headers
    assert list(tmp_path.iterdir()) == []


def test_brackets_and_braces_in_a_url_are_one_request(loja, tmp_path):
    with Receiver() as receiver:
        endpoint = create_endpoint(loja, f"{receiver.url}/[1-3]/{{a,b}}")
        endpoint.keep_secrets(headers={})
        command = curl_command(create_delivery(endpoint), endpoint, Payload(b"{}"), is_signed=False)
        run(command, tmp_path, URL=endpoint.options["url"])
    assert [request.path for request in receiver.requests] == ["/in/[1-3]/{a,b}"]


def test_only_the_authorization_that_a_key_signs_is_called_a_token(loja):
    endpoint = create_endpoint(loja)
    endpoint.keep_secrets(headers={JWT_KEY: "key", "X-Key": "value"})
    command = curl_command(create_delivery(endpoint), endpoint, Payload(b"{}"), is_signed=False)
    assert "HEADER_AUTHORIZATION=...  # a JSON Web Token that is signed anew for each attempt" in command
    assert "HEADER_X_KEY=...  # a stored header" in command


def test_a_large_body_is_read_from_a_file(loja, tmp_path):
    body = b'"' + b"x" * MAX_INLINE + b'"'
    with Receiver() as receiver:
        endpoint = create_endpoint(loja, receiver.url.removesuffix("/in"))
        delivery = create_delivery(endpoint, body=body)
        command = curl_command(delivery, endpoint, Payload(body), is_signed=False)
        assert len(command) < 2000
        (tmp_path / "body.json").write_bytes(body)
        run(command, tmp_path, HEADER_X_KEY="x")
    [request] = receiver.requests
    assert request.body == body
    assert "webhook-signature" not in request.headers
