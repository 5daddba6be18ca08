"""README.md names, for each fault, tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.server import ROOT

pytestmark = pytest.mark.any_database

README = ROOT / "tests" / "faults" / "README.md"


def test_the_tests_of_each_fault_exist():
    for line in README.read_text().splitlines():
        if not re.match(r"\| [A-Z][0-9]", line):
            continue
        tests = re.findall(r"`([\w/]*\.py)?::(\w+)`", line)
        assert tests, line
        path = ""
        for file, name in tests:
            path = file or path
            assert re.search(rf"def {name}\(", (ROOT / "tests" / path).read_text()), f"{path}::{name}"
