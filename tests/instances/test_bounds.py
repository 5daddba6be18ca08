"""The table of bounds, its variables and its document."""

from __future__ import annotations

import subprocess
import sys

import pytest

from instances import bounds
from instances.bounds.bound import PREFIX, TABLE, document
from tests.environment import SETTINGS
from tests.server import ROOT

pytestmark = pytest.mark.any_database


def manage(*arguments, **variables):
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=SETTINGS | variables, capture_output=True, text=True, timeout=60)


def test_the_document_is_made_from_the_table():
    assert (ROOT / "docs" / "limits.md").read_text() == document(), "run: make limits"


def test_each_constant_has_its_variables_value():
    for variable, bound in TABLE.items():
        assert getattr(bounds, variable.removeprefix(PREFIX)) == bound.default


@pytest.mark.parametrize("value", ["0", "-1", "16MB", "1.5", "\u0661", "9" * 16])
def test_a_value_that_is_no_positive_number_is_refused_by_the_variables_name(value, tmp_path):
    refused = manage("check", MAX_BODY_BYTES=value, DATA_DIR=str(tmp_path))

    assert refused.returncode
    assert f"MAX_BODY_BYTES takes a whole number of bytes, 1 or more, such as 16777216; not {value!r}" in refused.stderr
