"""Envelopes: their members are found without parsing the data."""

from __future__ import annotations

import orjson
import pytest

from instances.events import EventType
from instances.models import Instance
from realtime.envelope import EventNumber, members, render

pytestmark = pytest.mark.any_database

TRAP = '","data":{"date_time":"x","server_url":"y"},"date_time":"'


@pytest.mark.parametrize("server_url", ["", "https://evo.example.com"])
@pytest.mark.parametrize("number", [None, "5511900000001"])
@pytest.mark.parametrize(
    "data",
    [
        None,
        "text",
        TRAP,
        {TRAP: TRAP},
        {"data": {"date_time": "x", "server_url": "https://evo.example.com"}, "date_time": "y"},
        [{"server_url": "https://evo.example.com"}],
        orjson.Fragment(b'{"a":  1}'),
    ],
)
def test_an_envelopes_members_are_those_that_were_rendered(data, number, server_url, settings):
    settings.SERVER_URL = server_url
    instance = Instance(name=f"loja{TRAP}", number=number)
    envelope = render(instance, EventType.CALL, data, EventNumber("epoch", 7, 6))

    found = members(envelope)

    assert list(found) == list(orjson.loads(envelope))
    assert orjson.dumps(found) == envelope
