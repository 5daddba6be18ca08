"""Untrusted JSON: parsed exactly, or refused with a reason."""

import json
from contextlib import suppress

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instances.bounds import JSON_STRUCTURE
from instances.json_body import MAX_DEPTH, NotJson, dumps, load, load_stored
from instances.json_body.dumping import dump_in_pieces
from instances.json_body.loading import load_in_pieces

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


@given(
    st.lists(st.sampled_from([r"\ud83d", r"\uDE00", r"\\", r"\"", r"\n", r"\u0041", "ud83d", "a" * 63, "é", "\ud83d"]))
)
def test_surrogates_are_replaced_whatever_is_around_them(parts):
    text = "".join(parts).encode(errors="surrogatepass")
    body = b'["\\ud83d", "' + text + b'"]'
    expected = json.loads(body.decode(errors="surrogatepass"))
    assert load(body) == [each.encode(errors="replace").decode() for each in expected]


@pytest.mark.parametrize("part", [r"\ud83d\ude00", r"\\", "\\\\\\ude00", "x" * 1000 + r"\ud83d\ude00", r"\u00e9"])
def test_no_escape_is_cut_in_a_long_text(part):
    body = ('["\\ud83d", "' + part * 20_000 + '"]').encode()
    assert load(body) == ["?", json.loads(f'"{part}"').encode(errors="replace").decode() * 20_000]


# The structure


def structured(count: int, text: str = "") -> bytes:
    """Return JSON with `count` of `{`, `[`, `,` and `:` outside of strings."""
    return f'["{text}"{",1" * (count - 1)}]'.encode()


@pytest.mark.parametrize("text", ["", ",[{:" * 200_000, r"\"," * 400_000, r"\\" * 400_001, r"\u005c," * 200_000])
def test_the_structure_of_a_body_is_limited_and_its_texts_are_not(text):
    assert len(load(structured(JSON_STRUCTURE, text))) == JSON_STRUCTURE
    for count in (JSON_STRUCTURE + 1, 2 * JSON_STRUCTURE):
        with pytest.raises(NotJson, match="outside of strings: send less at a time"):
            load(structured(count, text))


@pytest.mark.parametrize("part", [b"{},", b'{"a":1},', b'"",', b'[],"\\"",'])
def test_structure_is_counted_before_the_body_is_parsed(part):
    """Even of a body that is not JSON."""
    with pytest.raises(NotJson, match="outside of strings"):
        load(b"]" + part * (JSON_STRUCTURE + 1))


# In pieces

#: Texts of strings: short and long ones, with escapes, halves of surrogate pairs and what looks like them.
fragments = st.sampled_from(
    [
        "x",
        "yz" * 40,
        r"\n",
        r"\"",
        r"\\",
        r"\u00e9",
        r"\ud83d\ude00",
        r"\ud83d",
        r"\ude00",
        r"\\ud83d",
        "é",
        "😀",
        "[{,",
    ]
)
strings = st.lists(fragments, max_size=12).map(lambda parts: f'"{"".join(parts)}"')
scalars = st.sampled_from(["1", "-0", "1.5e300", "123456789012345678901", "true", "null"]) | strings
spaces = st.sampled_from(["", "", " ", "\n\t "])
names = st.sampled_from(['"a"', '"b"']) | strings


def listed(inner, brackets):
    items = st.tuples(spaces, inner, spaces).map("".join)
    return st.lists(items, max_size=9).map(lambda parts: brackets[0] + ",".join(parts) + brackets[1])


def nested(inner):
    return listed(inner, "[]") | listed(st.tuples(names, spaces, st.just(":"), inner).map("".join), "{}")


documents = st.recursive(scalars, nested, max_leaves=20).map(str.encode)
#: What a mistake puts into a text.
mistakes = st.sampled_from(
    [
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b'"',
        b"\\",
        b"\0",
        b"\xff",
        b"\xed\xa0\xbd",
        b"\xef\xbb\xbf",
        b"NaN",
        b"01",
        b"\\u12",
    ]
)


@st.composite
def broken_documents(draw):
    body = draw(documents)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(mistakes | st.just(b"")) + body[at + draw(st.integers(0, 8)) :]
    return body[: draw(st.integers(0, len(body)))] if draw(st.booleans()) else body


def outcome(load, *arguments):
    try:
        return repr(load(*arguments))  # which tells -0.0 from 0, and the order of members
    except NotJson as error:
        return str(error)


@given(documents | broken_documents() | st.binary(), st.integers(51, 200))
def test_a_body_is_parsed_or_refused_in_pieces_as_in_one(body, size):
    """With the same words, whatever is wrong with it: `load` parses what is short in one piece, by orjson."""
    assert outcome(load_in_pieces, body, size) == outcome(load, body)


@given(documents, st.integers(1, 60))
def test_a_value_is_serialized_in_pieces_as_in_one(body, size):
    value = load(body)
    assert dump_in_pieces(value, size=size) == orjson.dumps(value)


@pytest.mark.parametrize("options", [{"option": orjson.OPT_NON_STR_KEYS}, {"default": str}])
def test_options_and_errors_of_serializing_are_those_of_orjson(options):
    value = {"a": [1.5, None, ("x" * 20, "é" * 20), {"c": "y" * 20, 7: "z"}], "b" * 30: {"f": orjson.Fragment("[1]")}}
    value |= {"g": object} if "default" in options else {}
    try:
        expected = orjson.dumps(value, **options)
    except TypeError as error:
        with pytest.raises(TypeError, match=str(error)):
            dump_in_pieces(value, size=10, **options)
    else:
        assert dump_in_pieces(value, size=10, **options) == expected
    assert dumps({7: 1}, option=orjson.OPT_NON_STR_KEYS) == b'{"7":1}'


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[1,{"a":[', "]},2]")])
def test_nesting_is_limited_in_pieces_too(opening, closing):
    levels = MAX_DEPTH // (opening.count("[") + opening.count("{"))
    deepest = (opening * levels + "1" + closing * levels).encode()
    assert outcome(load_in_pieces, deepest, 51) == outcome(load, deepest)
    with pytest.raises(NotJson, match="nested more than 100 levels deep"):
        load_in_pieces(b"[[" + deepest + b"," + deepest + b"]]", 51)


def test_names_that_are_repeated_are_one_member_across_pieces():
    body = (
        b'{"a":[1,%b{"b":[2' % (b'"x",' * 30)
        + b',"y"' * 30
        + b']}],"c":3,"a":{"d":4,"d":[5'
        + b",6" * 30
        + b']},"c":7}'
    )
    assert outcome(load_in_pieces, body, 51) == outcome(load, body)


def test_what_is_stored_is_read_however_deep_it_is():
    stored = b"[" * 150 + b'"x"' + b"]" * 150 + b" " * 300_000
    assert load_stored(stored) == orjson.loads(stored)
    assert load_stored(stored.decode()) == orjson.loads(stored)
