"""The bodies that send messages: any JSON and any form is valid, or refused in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_framework.exceptions import ValidationError

from instances.api.message_bodies import EMOJI
from instances.api.message_examples import EXAMPLES
from instances.api.message_fields import PIECE, is_base64, is_url
from instances.api.messages import SEND_VIEWS
from instances.api.multipart import FormData
from instances.api.serializers import validate
from instances.errors import ApiError
from instances.outbound_message import OutboundMessage
from instances.providers.cloud_api_sends import FORMS
from instances.providers.evolution_sends import CONTENTS
from tests.instances.api.sends import BODIES, NUMBER, PIXEL, URL

pytestmark = pytest.mark.any_database


def test_the_examples_of_the_document_are_valid():
    for view in SEND_VIEWS:
        validate(view.body(data=EXAMPLES[view.kind]))


names = st.sampled_from(sorted({name for body in BODIES.values() for name in body} | {"quoted", "options", "file"}))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from([NUMBER, URL, PIXEL]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("view", SEND_VIEWS, ids=lambda view: view.kind.value)
@settings(max_examples=25)
@given(changed=st.dictionaries(names, values, max_size=3), is_form=st.booleans())
def test_any_json_is_valid_or_refused(view, changed, is_form):
    body = BODIES[f"send{view.kind.value}"] | changed
    data = FormData({name: str(value) for name, value in body.items()}) if is_form else body
    try:
        members = validate(view.body(data=data)) | {"quoted": {"key": {"id": "Q"}}}
        message = OutboundMessage(kind=view.kind, remote_jid=NUMBER, members=members, quoted=members["quoted"])
        for forms in (FORMS, CONTENTS):
            if view.kind in forms:
                assert forms[view.kind](members if forms is FORMS else message)
    except (ApiError, ValidationError):
        pass


@pytest.mark.parametrize(
    ("check", "text", "is_one"),
    [
        (is_url, "https://a.example/x y", False),
        (is_url, "ftp://user:pass@a.example:21/x", True),
        (is_url, "a.example", True),
        (is_url, "localhost", False),
        (is_url, "http://localhost:8080/x", False),
        (is_url, "http://10.0.0.1/x", True),
        (is_url, "http://a.1", False),
        (is_url, "gopher://a.example", False),
        (is_url, "https://", False),
        (is_url, "https://a.example/" + "x" * 9000, False),
        (is_url, "a." * 5000, False),
        (is_base64, "YWJj", True),
        (is_base64, "YWI=", True),
        (is_base64, "YW I", False),
        (is_base64, "YWJ", False),
        (is_base64, "", False),
        (is_base64, "A" * PIECE + "YWI=", True),
        (is_base64, "A" * (PIECE - 1) + "=" + "YWI=", False),
        (EMOJI.fullmatch, "👨‍👩‍👧‍👦", True),
        (EMOJI.fullmatch, "🇧🇷", True),
        (EMOJI.fullmatch, "1️⃣", True),
        (EMOJI.fullmatch, "❤️", True),
        (EMOJI.fullmatch, "🏴󠁧󠁢󠁥󠁮󠁧󠁿", True),
        (EMOJI.fullmatch, "🇧", False),
        (EMOJI.fullmatch, "a", False),
        (EMOJI.fullmatch, "❤️❤️", False),
    ],
)
def test_urls_base64_and_emojis_are_known(check: Callable[[str], Any], text: str, is_one: bool):
    assert bool(check(text)) == is_one
