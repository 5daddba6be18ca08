from __future__ import annotations

import pytest

from instances.models import Instance


@pytest.fixture
def mine(db) -> Instance:
    return Instance.objects.create(name="minha loja", integration="EVOLUTION", number="1001")


@pytest.fixture
def theirs(db) -> Instance:
    return Instance.objects.create(name="alheia", integration="EVOLUTION", number="1002")
