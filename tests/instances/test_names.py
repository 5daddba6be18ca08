"""Names of instances, and WhatsApp's addresses of people and groups."""

import time

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from instances.names import digits, is_number, jid, validate_name

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize(
    "name",
    [
        "loja",
        "Loja São João",
        "100%",
        "日本 支店",
        "x&y=z",
        "semi;colon:",
        'it\'s "so"',
        "a+b",
        "😀",
        ".a.b.",
        "-",
        "x" * 255,
    ],
)
def test_a_name_may_hold_spaces_accents_and_signs(name):
    validate_name(name)


@pytest.mark.parametrize("sign", [*"/\\,?#", "\x00", "\n", "\t", "\x7f", "\x85", "\ud800", "\u2028", "\u2029"])
def test_a_name_with_a_separator_or_control_character_is_refused(sign):
    with pytest.raises(ValidationError):
        validate_name(f"lo{sign}ja")


@pytest.mark.parametrize("name", ["", " ", " loja", "loja ", "\xa0loja", ".", "..", "x" * 256, "x" * 300])
def test_a_name_that_clients_would_normalize_is_refused(name):
    with pytest.raises(ValidationError):
        validate_name(name)


@given(st.text())
def test_any_valid_name_is_a_path_segment_and_a_namespace(name):
    try:
        validate_name(name)
    except ValidationError:
        return
    assert 0 < len(name) <= 255
    assert not set(name) & set("/\\,?#\r\n\x00")
    assert name == name.strip()
    name.encode()


@pytest.mark.parametrize(
    ("number", "address"),
    [
        ("5511988887777", "5511988887777@s.whatsapp.net"),
        ("+55 (11) 98888-7777", "5511988887777@s.whatsapp.net"),
        ("+55.11.98888.7777", "5511988887777@s.whatsapp.net"),
        ("+55 31 9.8888-7777", "553188887777@s.whatsapp.net"),
        ("972987654321", "972987654321@s.whatsapp.net"),
        ("5511988887777:12@s.whatsapp.net", "5511988887777@s.whatsapp.net"),
        ("5511988887777@c.us", "5511988887777@s.whatsapp.net"),
        ("120363041234567890", "120363041234567890@g.us"),
        ("5511988887777-1605000000123", "5511988887777-1605000000123@g.us"),
        ("120363041234567890@g.us", "120363041234567890@g.us"),
        ("12345@lid", "12345@lid"),
        ("status@broadcast", "status@broadcast"),
        # Brazil: from area code 31 on, mobile numbers lose the 9 that was added to them
        ("5531988887777", "553188887777@s.whatsapp.net"),
        ("5530988887777", "5530988887777@s.whatsapp.net"),
        ("5531968887777", "5531968887777@s.whatsapp.net"),
        # Mexico and Argentina: the digit after the country code
        ("5215512345678", "525512345678@s.whatsapp.net"),
        ("5491123456789", "541123456789@s.whatsapp.net"),
    ],
)
def test_a_number_becomes_the_same_address_as_in_evolution_api(number, address):
    assert jid(number) == address


@given(st.text(max_size=300))
def test_an_address_of_an_address_is_the_same(number):
    address = jid(number)
    assert address.partition("@")[2] in ("s.whatsapp.net", "g.us", "lid", "broadcast")
    assert jid(address) == address


@pytest.mark.parametrize("text", ["+55 11 98888-7777", "5511988887777@c.us", "5511988887777:3@s.whatsapp.net"])
def test_the_digits_of_a_number_are_those_of_its_address(text):
    assert digits(text) == "5511988887777"


@pytest.mark.parametrize("number", ["5511988887777", "5511988887777@s.whatsapp.net", "12", "1-2_x.y"])
def test_a_number_holds_digits_and_characters_of_addresses(number):
    assert is_number(number)


@pytest.mark.parametrize("number", ["", "1", "a1", "+5511988887777", "55 11", "12\n", "\u0661\u0662"])
def test_other_texts_are_no_numbers(number):
    assert not is_number(number)


def test_a_long_text_that_is_no_number_is_matched_without_backtracking():
    started_at = time.thread_time()
    assert not is_number("1" * 50_000 + "!")
    assert time.thread_time() - started_at < 1
