"""Names of instances, and WhatsApp's addresses of people and groups (JIDs)."""

from __future__ import annotations

import re
import unicodedata

from django.core.exceptions import ValidationError

#: Characters that end a URL segment or a Socket.IO namespace: a name is both, unescaped.
FORBIDDEN_IN_NAMES = "/\\,?#"
MAX_NAME_LENGTH = 255
#: The white space that JavaScript's `trim` removes, and so Evolution API from around a new name.
TRIMMED = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
_TRIMMED = r"[\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]*"
#: The rules of `validate_name`, for a name that is trimmed first, as an ECMAScript regular expression for OpenAPI.
NAME_PATTERN = (
    rf"^{_TRIMMED}(?!\.{{1,2}}{_TRIMMED}$)[^\s/\\,?#\x00-\x1f\x7f-\x9f\ufeff]"
    r"([^/\\,?#\x00-\x1f\x7f-\x9f\u2028\u2029]*[^\s/\\,?#\x00-\x1f\x7f-\x9f\ufeff])?" + _TRIMMED + "$"
)


def validate_name(name: str) -> None:
    """Raise ValidationError, with the reason, for a name that clients cannot address."""
    if not name:
        raise ValidationError('The "instanceName" cannot be empty')
    if len(name) > MAX_NAME_LENGTH:
        raise ValidationError(f"instanceName does not meet maximum length of {MAX_NAME_LENGTH}")
    if name != name.strip() or name in (".", ".."):
        raise ValidationError("instanceName must not begin or end with a space, nor be a dot or two")
    if found := next((c for c in name if c in FORBIDDEN_IN_NAMES), None):
        raise ValidationError(f"instanceName must not contain {found}")
    # control characters, lone surrogates, line and paragraph separators
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        raise ValidationError("instanceName must not contain control characters")


def is_number(text: str) -> bool:
    """Return whether a text can be an instance's number: a phone number or an id, as in Evolution API's schema."""
    # not \d+, as in that schema: it backtracks through each split of the digits between both parts
    return re.fullmatch(r"\d[.@\w-]+", text, re.ASCII) is not None


def jid(number: str) -> str:
    """Return the WhatsApp address of a phone number, as Evolution API forms it (`utils/createJid.ts`).

    An address is returned without its device (`:12`). Mexican, Argentine and Brazilian mobile numbers lose the digit
    that WhatsApp does not use.
    """
    number = re.sub(r":\d+", "", number)
    if number.endswith(("@g.us", "@s.whatsapp.net", "@lid", "@broadcast")):
        return number
    number = re.sub(r"[\s+()]", "", number.partition("@")[0])
    if ("-" in number and len(number) >= 24) or (number.isdecimal() and len(number) >= 18):
        return f"{number}@g.us"
    number = re.sub(r"[^0-9a-zA-Z_.]", "", number)
    if not re.search("[a-zA-Z_]", number):
        number = number.replace(".", "")  # +55.11.98888.7777, as some write a phone number
    return f"{_without_mobile_digit(number)}@s.whatsapp.net"


def is_user_id(text: str) -> bool:
    """Return whether a text is a business-scoped user id, by which Meta names people without a phone number.

    Two letters of a country, then parts of letters and digits: `US.13491208655302741918`, `US.ENT.11815799212886844`.
    """
    return re.fullmatch(r"[A-Za-z]{2}(\.[A-Za-z0-9]+){1,2}", text) is not None


def _without_mobile_digit(number: str) -> str:
    if len(number) != 13 or not number.isdecimal():
        return number
    if number.startswith(("52", "54")):
        return number[:2] + number[3:]
    if number.startswith("55") and int(number[2:4]) >= 31 and int(number[5]) >= 7:
        return number[:4] + number[5:]
    return number


def digits(address: str) -> str:
    """Return the digits of the phone number in an address or in a formatted number."""
    return re.sub(r"\D", "", address.partition("@")[0].partition(":")[0])
