"""docs/settings.md and docs/limits.md: each variable has its default, its unit, and an example that is accepted."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from instances.bounds.bound import TABLE
from instances.events import GROUP_UPDATE, EventType
from tests.server import ROOT

pytestmark = pytest.mark.any_database

#: Prints the variables that the settings read, their defaults and their units.
LOAD = """
import json
from evoapi import settings
from instances.bounds.bound import TABLE
print(json.dumps({
    "known": sorted(settings.VARIABLES.known),
    "defaults": settings.VARIABLES.defaults,
    "ranges": settings.VARIABLES.ranges,
    "values": {name: str(getattr(settings, name)) for name in settings.VARIABLES.known if hasattr(settings, name)}
    | {name: str(bound.value) for name, bound in TABLE.items()},
}))
"""

#: Defaults that are made, and not written in the code, by what the document says of them.
MADE = {
    **dict.fromkeys(("SECRET_KEY", "ENCRYPTION_KEYS", "AUTHENTICATION_API_KEY"), "generated"),
    "DJANGO_SUPERUSER_PASSWORD": "generated",
    **dict.fromkeys(("WA_BUSINESS_APP_SECRET", "WA_BUSINESS_TOKEN_WEBHOOK"), "by `bootstrap`"),
    "DATABASE_URL": "SQLite in `DATA_DIR`",
    "DATA_DIR": "`var`",
    "EVOLUTION_INGRESS_OPEN": "`false`",
    "WEBHOOK_RETRY_NON_RETRYABLE_STATUS_CODES": "`400,422`",
    "WEBHOOK_RETRY_MAX_ATTEMPTS": "see below",
    "WEBHOOK_RETRY_INITIAL_DELAY_SECONDS": "see below",
    "WEBHOOK_RETRY_MAX_DELAY_SECONDS": "see below",
    "WEBHOOK_RETRY_USE_EXPONENTIAL_BACKOFF": "see below",
    "WEBHOOK_RETRY_JITTER_FACTOR": "see below",
}


class Row(NamedTuple):
    """A row of the tables in docs/settings.md."""

    name: str
    default: str
    unit: str
    example: str
    meaning: str


def rows() -> list[Row]:
    """Return the rows; one for all events, such as WEBHOOK_EVENTS_<NAME>, is one for each of them."""
    found = []
    for line in (ROOT / "docs" / "settings.md").read_text().splitlines():
        if match := re.match(r"\| `([A-Z_]+(?:<NAME>)?)` \|", line):
            row = Row(match[1], *(cell.strip() for cell in line.split(" | ")[1:]))
            names = [GROUP_UPDATE, *EventType.names] if "<NAME>" in row.name else [""]
            found += [row._replace(name=row.name.replace("<NAME>", name)) for name in names]
    return found


def load(directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Load the settings in a process with these variables alone."""
    return subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=ROOT,
        env={"DATA_DIR": str(directory), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """The variables as the code reads them, without any in the environment."""
    done = load(tmp_path_factory.mktemp("data"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def value(example: str) -> str:
    """Return the value that a reader takes from the column of examples: that, or what the command there prints."""
    text = example.strip("`")
    if not text.startswith("python -c "):
        return text
    command = [sys.executable, *shlex.split(text)[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def test_each_variable_that_is_read_has_one_row_and_each_row_is_read(code):
    listed = [row.name for row in rows()]
    assert len(set(listed)) == len(listed)
    limits = {name for name in code["known"] if name.startswith("LIMIT_")}
    assert {*listed} == {*code["known"]} - limits
    assert [name for name in TABLE if f"`{name}`" not in (ROOT / "docs" / "limits.md").read_text()] == []


def test_each_default_is_that_of_the_code(code):
    defaults = code["defaults"] | {name: bound.default for name, bound in TABLE.items()}
    for row in rows():
        default = defaults.get(row.name)
        shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
        expected = MADE.get(row.name) or ("none" if default is None else shown)
        assert row.default.startswith(expected), f"{row.name}: {row.default}, and not {expected}"


def test_a_default_that_depends_on_another_variable_is_as_documented(tmp_path):
    """SECURE_HSTS_SECONDS, which the document gives two defaults."""
    done = load(tmp_path, SERVER_URL="https://evo.example.com")
    (row,) = (row for row in rows() if row.name == "SECURE_HSTS_SECONDS")
    assert f"`{json.loads(done.stdout)['defaults']['SECURE_HSTS_SECONDS']}` (a year) with an `https`" in row.default


def test_the_defaults_that_are_made_are_not_in_the_code(code):
    written = {name: default for name, default in code["defaults"].items() if name in MADE}
    assert written.pop("DATABASE_URL").startswith("sqlite:")
    assert written == {"DATA_DIR": str(ROOT / "var")}


def test_each_unit_and_range_is_that_of_the_code(code):
    for row in rows():
        if row.name in code["ranges"]:
            unit, low, high = code["ranges"][row.name]
            word = re.sub(r"^a (number of )?", "", unit.partition(",")[0])
            assert f"{low} to {high}" in row.unit, f"{row.name}: {unit} from {low} to {high}"
            assert word == "number" or word in row.unit, f"{row.name}: {unit}"
        elif row.name in TABLE:
            assert row.unit == f"{TABLE[row.name].unit}, 1 or more"
        elif isinstance(code["defaults"].get(row.name), bool):
            assert row.unit == "true or false", row.name
        else:
            assert row.unit, row.name


def test_the_examples_are_accepted_all_together_and_change_what_they_set(code, tmp_path):
    """Examples that need each other, such as CORS_CREDENTIALS and CORS_ORIGIN, stand together, so one start has all."""
    examples = {row.name: value(row.example) for row in rows()}
    examples |= {name: str(bound.example) for name, bound in TABLE.items()}
    manager = tmp_path / "manager"
    manager.mkdir()
    (manager / "index.html").touch()
    done = load(tmp_path, **examples | {"DATA_DIR": str(tmp_path), "EVOLUTION_MANAGER_DIR": str(manager)})
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)["values"]
    same = {name for name in values if values[name] == code["values"].get(name)}
    # the Graph API has one address; the dashboard is not served while another example switches it off
    assert same <= {"WA_BUSINESS_URL", "EVOLUTION_MANAGER_DIR"}, same
