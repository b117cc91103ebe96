"""A Ray cluster of two nodes with a core each, on this machine."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ROOT

STORE_BYTES = 100_000_000


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, list[Any]]]:
    """The cluster and its nodes; the second may be removed."""
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="the extra ray is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    settings = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=settings)
    nodes = [cluster.head_node, cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)]
    cluster.wait_for_nodes()
    yield cluster, nodes
    cluster.shutdown()
    os.environ.pop("RAY_ADDRESS", None)
