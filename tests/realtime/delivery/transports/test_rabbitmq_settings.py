"""The settings of the RabbitMQ transport, loaded in a process of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.environment import SETTINGS
from tests.server import ROOT

pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("rabbitmq")]


def settings_with(code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Load the settings in a process of its own; `code` runs before."""
    command = [
        sys.executable,
        "-c",
        f"{code}\nimport django; django.setup()\nfrom realtime.delivery.transports.base import *\nprint(transports())",
    ]
    own = SETTINGS | {"PATH": "/usr/bin:/bin"} | environment
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=60)


WITHOUT_CLIENT = "import sys; sys.modules['aiormq'] = None"


def test_without_the_client_the_rest_works(tmp_path):
    done = settings_with(WITHOUT_CLIENT, DATA_DIR=str(tmp_path))
    assert "RabbitMQ" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("code", "environment", "words"),
    [
        (WITHOUT_CLIENT, {"RABBITMQ_URI": "amqp://a:very-secret-word@b/"}, "requirements-rabbitmq.txt"),
        ("", {}, "RABBITMQ_ENABLED needs RABBITMQ_URI"),
        ("", {"RABBITMQ_URI": "http://a:very-secret-word@b/"}, "RABBITMQ_URI takes a URL that begins with amqp://"),
    ],
)
def test_missing_requirements_are_reported_at_startup(tmp_path, code, environment, words):
    done = settings_with(code, DATA_DIR=str(tmp_path), RABBITMQ_ENABLED="true", **environment)
    assert done.returncode != 0
    assert words in done.stderr
    assert "very-secret-word" not in done.stderr
