"""Names are those that the user wrote."""

from __future__ import annotations

import pytest

from lightning_neurohealth.layers import clean_name


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("net._orig_mod.fc", "net.fc"),
        ("_orig_mod", ""),
        ("_fsdp_wrapped_module._checkpoint_wrapped_module.a.0", "a.0"),
        ("a._orig_mod", "a"),
        ("my_orig_mod.a", "my_orig_mod.a"),
    ],
)
def test_clean_name(name: str, clean: str) -> None:
    assert clean_name(name) == clean
