"""One word, one thing: no two classes of the product have one name."""

from __future__ import annotations

import ast
from collections import defaultdict

import pytest

from tests.server import ROOT

#: Names that Django looks for.
DJANGOS = {"Command", "DatabaseWrapper", "Media", "Meta", "Migration"}


@pytest.mark.any_database
def test_no_two_classes_have_one_name():
    places = defaultdict(list)
    for app in ("evoapi", "instances", "realtime"):
        for path in sorted((ROOT / app).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 200
    assert not {name: found for name, found in places.items() if len(found) > 1 and name not in DJANGOS}
