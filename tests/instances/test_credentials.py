"""The requests that `manage.py credentials` prints, for instances whose names, tokens and ids hold code."""

from __future__ import annotations

import json
import re
import shlex
from io import StringIO

import pytest
from django.core.management import call_command

from instances.models import Instance

pytestmark = [pytest.mark.any_database, pytest.mark.django_db]

CODE = """'; touch pasted; echo "$(touch pasted)`touch pasted`"); process.exit(); //"""


def test_names_tokens_and_ids_are_quoted_in_what_is_pasted(settings):
    settings.SERVER_URL, settings.WA_BUSINESS_APP_SECRET = "https://evo.example.com", "secret"
    name = CODE.replace("/", "")
    instance = Instance(name=name, number="5511999990000")
    instance.give_token(CODE)
    instance.save()
    Instance.objects.create(name="meta", integration="WHATSAPP-BUSINESS", number=f"1{CODE}", business_id=CODE)
    printed = StringIO()
    call_command("credentials", stdout=printed)

    [[namespace, token]] = re.findall(r"const socket = io\((.*), \{ auth: \{ apikey: (.*) \} \}\);", printed.getvalue())
    assert (json.loads(namespace), json.loads(token)) == (f"https://evo.example.com/{name}", CODE)
    inbound, meta = map(shlex.split, re.findall(r"^  (curl .*\\\n(?:.*\\\n)*.*)$", printed.getvalue(), re.M))
    assert inbound[1:5] == ["https://evo.example.com/webhook/evolution", "-H", f"apikey: {CODE}", "-H"]
    assert json.loads(inbound[-1])["numberId"] == "5511999990000"
    [entry] = json.loads(meta[-1])["entry"]
    assert entry["id"] == CODE
    assert entry["changes"][0]["value"]["metadata"]["phone_number_id"] == f"1{CODE}"
