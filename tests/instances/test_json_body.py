"""JSON from strangers: read exactly, or refused with a reason."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instances.json_body import MAX_DEPTH, NotJson, load

pytestmark = pytest.mark.any_database

whole_numbers = st.integers(-(2**63), 2**64 - 1)
values = st.recursive(
    st.none() | st.booleans() | whole_numbers | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values, st.booleans())
def test_json_is_read_as_it_was_meant_escaped_or_not(value, escaped):
    body = json.dumps(value, ensure_ascii=escaped).encode(errors="surrogatepass")
    assert load(body) == value


@given(st.binary())
def test_any_bytes_are_read_or_refused(body):
    with suppress(NotJson):
        load(body)


@pytest.mark.parametrize("torn", ["\\ud83d", "\\ude00", "\\ud83d \\ude00", "\\ude00\\ud83d"])
def test_half_an_emoji_becomes_a_question_mark(torn):
    told = load(f'{{"text": "Ol\\u00e1 {torn}", "{torn}": 1}}'.encode())
    assert told["text"] == "Olá " + torn.replace("\\ud83d", "?").replace("\\ude00", "?")
    json.dumps(told, ensure_ascii=False).encode()  # nothing is left that cannot be written


def test_a_whole_emoji_beside_a_torn_one_survives():
    assert load(rb'["\ud83d\ude00\ud83d"]') == ["😀?"]


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b'{"a": }', b"{'a': 1}", b"NaN", b'{"a": Infinity}', b"[1]x", b"<html>", b'"\xff"', b"9" * 5000],
)
def test_what_is_not_json_is_refused_in_words(body):
    with pytest.raises(NotJson, match=r"^The body is not JSON: "):
        load(body)


def test_a_byte_order_mark_does_no_harm():
    assert load(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_ends_at_the_limit(opening, closing):
    def nested(levels):
        return (opening * levels + "1" + closing * levels).encode()

    load(nested(MAX_DEPTH))
    for levels in (MAX_DEPTH + 1, 1000, 100_000):
        with pytest.raises(NotJson):
            load(nested(levels))


def test_a_wide_body_is_not_a_deep_one():
    assert len(load(json.dumps([{"a": [1]}] * 1000).encode())) == 1000


def test_a_number_beyond_64_bits_is_read_as_near_as_can_be():
    assert load(b'{"a": 123456789012345678901234567890}') == {"a": 1.2345678901234568e29}
