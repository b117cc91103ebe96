"""Ray clusters of two nodes on this machine, and a copy of CIFAR-10 of noise for them."""

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from cifar.data import archive

STORE_BYTES = 400_000_000  # a copy of cifar10 goes through it


@contextmanager
def cluster_of_two(of_first: dict[str, str], of_second: dict[str, str], cores: int = 1) -> Iterator[tuple[Any, Any]]:
    """A cluster and its second node, which may be removed.

    Args:
        of_first, of_second: environment variables of the nodes.
        cores: of the second node; the first has one.
    """
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="the extra ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        settings = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
        first = {**settings, "num_cpus": 1, "env_vars": of_first}
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=first)
        second = cluster.add_node(**settings, num_cpus=cores, env_vars=of_second)
        cluster.wait_for_nodes()
        try:
            yield cluster, second
        finally:
            cluster.shutdown()
            os.environ.pop("RAY_ADDRESS", None)


def write_noise(folder: Path) -> None:
    """A copy of cifar10 with as many images, of noise."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name in archive.FILES_MD5:
        images = rng.integers(0, 256, (archive.BATCH, 3072), np.uint8)
        content = {b"data": images, b"labels": [i % 10 for i in range(archive.BATCH)]}
        if name == "batches.meta":
            content = {b"label_names": [name.encode() for name in archive.CLASS_NAMES]}
        (folder / name).write_bytes(pickle.dumps(content, 2))
