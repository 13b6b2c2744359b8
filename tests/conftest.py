"""How the tests share two cores."""

from __future__ import annotations

import gc
import os
from collections import Counter

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# Before torch is imported. Several threads of two processes mostly wait for each other, and a forked process waits for
# threads of OpenMP that did not come with it forever.
os.environ["OMP_NUM_THREADS"] = "1"


# For a thorough search: pytest --hypothesis-profile thorough
settings.register_profile("fast", max_examples=10, deadline=None, database=None, derandomize=True)
settings.register_profile("thorough", max_examples=300, deadline=None)
settings.load_profile("fast")


def group(nodeid: str) -> str:
    """A test belongs with all others of its file; a test of a rule in a network, with all others of that network."""
    file, _, test = nodeid.partition("::")
    given = test.partition("[")[2].rstrip("]").partition("-")[0]
    return given if file.startswith("tests/rules/") and given.isidentifier() else file


class ByGroup(LoadScopeScheduling):
    """A group runs in one process, so that what it trains is trained once.

    Marks of ``xdist_group`` would not do: pytest 9.2 keeps from pytest-xdist 3.8 what they say
    (https://github.com/pytest-dev/pytest-xdist/issues/1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByGroup:
    config.option.loadscopereorder = False
    return ByGroup(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Small groups first: they hold the long tests, and no process waits at the end for one of them."""
    if hasattr(config, "workerinput"):
        sizes = Counter(group(item.nodeid) for item in items)
        items.sort(key=lambda item: sizes[group(item.nodeid)])


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end; the collector need not look through them again and again."""
    gc.collect()
    gc.freeze()
