"""Untrusted JSON: parsed exactly, or refused with a reason."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instances.json_body import MAX_DEPTH, NotJson, load

pytestmark = pytest.mark.any_database

integers = st.integers(-(2**63), 2**64 - 1)
values = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values, st.booleans())
def test_json_is_parsed_exactly_escaped_or_not(value, escaped):
    body = json.dumps(value, ensure_ascii=escaped).encode(errors="surrogatepass")
    assert load(body) == value


@given(st.binary())
def test_any_bytes_are_parsed_or_refused(body):
    with suppress(NotJson):
        load(body)


@pytest.mark.parametrize("surrogates", ["\\ud83d", "\\ude00", "\\ud83d \\ude00", "\\ude00\\ud83d"])
def test_a_lone_surrogate_becomes_a_question_mark(surrogates):
    value = load(f'{{"text": "Ol\\u00e1 {surrogates}", "{surrogates}": 1}}'.encode())
    assert value["text"] == "Olá " + surrogates.replace("\\ud83d", "?").replace("\\ude00", "?")
    json.dumps(value, ensure_ascii=False).encode()  # no surrogate is left, which UTF-8 cannot encode


def test_a_surrogate_pair_beside_a_lone_surrogate_is_kept():
    assert load(rb'["\ud83d\ude00\ud83d"]') == ["😀?"]


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b'{"a": }', b"{'a': 1}", b"NaN", b'{"a": Infinity}', b"[1]x", b"<html>", b'"\xff"', b"9" * 5000],
)
def test_malformed_json_is_refused_with_a_reason(body):
    with pytest.raises(NotJson, match=r"^The body is not JSON: "):
        load(body)


def test_a_byte_order_mark_is_ignored():
    assert load(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_is_limited(opening, closing):
    def nested(levels):
        return (opening * levels + "1" + closing * levels).encode()

    load(nested(MAX_DEPTH))
    for levels in (MAX_DEPTH + 1, 1000, 100_000):
        with pytest.raises(NotJson):
            load(nested(levels))


def test_the_width_of_a_body_is_not_its_depth():
    assert len(load(json.dumps([{"a": [1]}] * 1000).encode())) == 1000


def test_an_integer_beyond_64_bits_is_parsed_as_a_float():
    assert load(b'{"a": 123456789012345678901234567890}') == {"a": 1.2345678901234568e29}
