"""A Ray cluster on this machine, started once for all tests of a process."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from reidkit.distributed import Cluster
from reidkit.distributed._cluster import connected
from tests.pictures import skip_without

LOCAL = Cluster("local")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Cluster]:
    """Start Ray; what is asked to use a local cluster uses this one."""
    skip_without("ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        with connected(LOCAL):
            yield LOCAL
