from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.instances.providers.graph_api import Graph


@pytest.fixture(scope="module")
def running_graph() -> Iterator[Graph]:
    """A Graph API on this machine."""
    graph = Graph()
    yield graph
    graph.stop()


@pytest.fixture
def graph(running_graph: Graph) -> Graph:
    """The Graph API, without what earlier tests left."""
    running_graph.forget()
    return running_graph
