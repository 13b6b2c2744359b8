"""Tests that say what is right and is not so yet: known gaps, each to be closed, none to be forgotten."""

from __future__ import annotations

import pytest

GAPS = {
    "tests/rules/test_exploding_gradients.py::test_silent_where_they_do_not[resumed]",
    "tests/rules/test_no_gradient.py::test_pools_a_whole_epoch",
    "tests/rules/test_no_gradient.py::test_silent_where_all_learn[rare_experts]",
    "tests/rules/test_no_gradient.py::test_silent_where_all_learn[taking_turns]",
    "tests/rules/test_no_gradient.py::test_silent_where_all_learn[wide_with_blank_pixels]",
    "tests/rules/test_non_finite.py::test_does_not_blame_the_loss_where_the_layers_were_not_measured",
    "tests/rules/test_vanishing_gradients.py::test_names_every_part_that_starves",
    "tests/test_ranks.py::test_layer_that_gets_an_activation_later",
    "tests/test_ranks.py::test_layer_that_not_every_rank_calls[late_on_both-]",
    "tests/test_ranks.py::test_layer_that_not_every_rank_calls[late_on_rank_1-]",
    "tests/test_ranks.py::test_layer_that_not_every_rank_calls[never_on_rank_0-]",
    "tests/test_ranks.py::test_layer_that_not_every_rank_calls[never_on_rank_1-]",
}
"""Node ids. A rule is too quick or too slow to speak in the case that the test's own docstring describes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid in GAPS:
            item.add_marker(pytest.mark.xfail(reason="known gap, see GAPS", strict=False))
