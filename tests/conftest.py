"""How the tests share two cores."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Before torch is imported. Several threads of two processes mostly wait for each other, and a forked process waits for
# threads of OpenMP that did not come with it forever.
os.environ["OMP_NUM_THREADS"] = "1"


# For a thorough search: pytest --hypothesis-profile thorough
settings.register_profile("fast", max_examples=10, deadline=None, database=None, derandomize=True)
settings.register_profile("thorough", max_examples=300, deadline=None)
settings.load_profile("fast")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process runs all that needs the same trained network, and all other tests of one file."""
    for item in items:
        given = item.callspec.params.values() if hasattr(item, "callspec") else ()
        network = next((value.__name__ for value in given if hasattr(value, "cache_info")), None)
        item.add_marker(pytest.mark.xdist_group(network or item.location[0]))
