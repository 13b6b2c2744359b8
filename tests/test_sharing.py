"""What is trained once for many tests: they run in one process."""

import pytest

from tests.conftest import group


@pytest.mark.parametrize(
    ("test", "whole"),
    [
        ("tests/test_demo.py::test_exit", "tests/test_demo.py"),
        ("tests/test_demo.py::test_exit[plain]", "tests/test_demo.py"),
        ("tests/sinks/test_page.py::TestPage::test_says[a-1]", "tests/sinks/test_page.py"),
        ("tests/rules/test_plateau.py::test_silent[plain]", "plain"),
        ("tests/rules/test_saturation.py::test_finds[plain-say no [more]]", "plain"),
        ("tests/rules/test_saturation.py::test_bands[0.2-None]", "tests/rules/test_saturation.py"),
        ("tests/rules/test_saturation.py::test_names", "tests/rules/test_saturation.py"),
    ],
)
def test_a_test_belongs_to_its_file_or_to_its_network(test: str, whole: str) -> None:
    assert group(test) == whole
