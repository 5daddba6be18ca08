"""The table of Evolution API's variables: those that it says are used are read, and no others."""

from __future__ import annotations

import pytest
from django.conf import settings

from evoapi.variables import Variables
from instances.evolution_variables import FORMER, VARIABLES, Effect, variables_table

pytestmark = pytest.mark.any_database


def names(*effects: Effect) -> list[str]:
    return [
        name.replace("<NAME>", "MESSAGES_UPSERT")
        for variable in VARIABLES
        if variable.effect in effects
        for name in variable.names
    ]


def test_each_variable_is_listed_once():
    listed = names(*Effect)
    assert len(set(listed)) == len(listed) > 150


def test_those_that_are_used_are_read_and_no_others():
    known = settings.VARIABLES.known
    assert [name for name in names(Effect.USED) if name not in known] == []
    assert [name for name in names(Effect.REPLACED, Effect.NONE) if name in known] == []


def test_the_start_warns_of_none_of_them_and_of_misspelt_ones():
    former = [pattern.replace("*", "X") for pattern in FORMER]
    misspelt = ["WEBHOOK_EVENTS_MESSAGE_UPSERT", "METRICS_ALLOWED_IP", "RABBITMQ_URL"]
    variables = Variables(dict.fromkeys([*names(*Effect), *former, *misspelt, "CONFIG_DIR", "METRICS_PORT_X"], "x"))
    variables.known |= settings.VARIABLES.known
    assert variables.unknown() == sorted(misspelt)


def test_what_has_no_effect_says_why():
    assert [variable for variable in VARIABLES if variable.effect is not Effect.USED and not variable.note] == []
    assert "| `PROMETHEUS_METRICS` | used | `GET /metrics` |" in variables_table().splitlines()
