"""docs/guides/troubleshooting.md: each error of the code has a row with cause and cure, and each row an error."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from tests.docs.errors import PLACEHOLDER, exceptions, messages
from tests.server import ROOT

pytestmark = pytest.mark.any_database

GUIDE = ROOT / "docs" / "guides" / "troubleshooting.md"
HEAD = "| The error | Why | What to do |"
NAMES = "| Name | Stands for |"

#: Rows about what others say, and not the code.
OTHERS = ("a status of ",)
#: Rows whose text is cut from a longer one by the code.
CUT = ("extra has …", "Events are a list …", "… takes …; not …")


class Row(NamedTuple):
    """A row about some errors: their texts, with … for what differs."""

    errors: list[str]
    why: str
    cure: str


def tables(head: str) -> list[list[str]]:
    """Return the cells of all rows of the tables with this head."""
    rows, is_inside = [], False
    for line in GUIDE.read_text().splitlines():
        if line == head:
            is_inside = True
        elif is_inside and not line.startswith("|"):
            is_inside = False
        elif is_inside and not line.startswith("|---"):
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def rows() -> list[Row]:
    found = [Row(re.findall(r"`([^`]+)`", cells[0]), *cells[1:]) for cells in tables(HEAD)]
    return [row for row, cells in zip(found, tables(HEAD), strict=True) if not cells[0].startswith(OTHERS)]


def pattern_of(error: str) -> re.Pattern[str]:
    """Return the pattern of the texts that an error of the guide stands for."""
    return re.compile(".*".join(re.escape(part) for part in error.split(PLACEHOLDER)), re.DOTALL)


def test_each_error_of_the_code_has_a_row():
    patterns = [pattern_of(error) for row in rows() for error in row.errors]
    missing = [each for each in messages() if not any(pattern.fullmatch(each.text) for pattern in patterns)]
    assert not missing, "add to docs/guides/troubleshooting.md:\n" + "\n".join(f"{at}: {text}" for text, at in missing)


def test_each_row_is_about_an_error_of_the_code():
    texts = [each.text for each in messages()]
    errors = [error for row in rows() for error in row.errors if error not in CUT]
    assert [error for error in errors if not any(pattern_of(error).fullmatch(text) for text in texts)] == []


def test_each_row_has_errors_a_cause_and_a_cure():
    found = rows()
    assert len(found) > 60
    assert [row for row in found if not (row.errors and row.why)] == []
    assert [row.errors for row in found if not row.cure and "](#" not in row.why] == []


def test_no_row_stands_for_everything():
    broad = {error for row in rows() for error in row.errors if len(re.sub(r"\W", "", error)) < 4}
    assert broad == set()
    counts = {error: sum(bool(pattern_of(error).fullmatch(each.text)) for each in messages()) for error in _all()}
    assert {error: count for error, count in counts.items() if count > 15} == {}


def _all() -> list[str]:
    return [error for row in rows() for error in row.errors]


def test_no_error_has_two_rows_of_its_own():
    assert len(set(_all())) == len(_all())


def test_each_exception_class_is_explained():
    listed = [name for cells in tables(NAMES) for name in re.findall(r"`(\w+)`", cells[0])]
    assert len(set(listed)) == len(listed)
    assert set(listed) == exceptions()
